"""Report of a validation: one self-contained HTML file, written from verdict, results and films."""
