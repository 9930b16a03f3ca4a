"""`wm-robot VERB`: builds the parts and hands them over. The only place that prints."""
