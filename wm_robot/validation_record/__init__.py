"""Validation record: what was judged, with which result, and for how long it counts. Standard library only."""
