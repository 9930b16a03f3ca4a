"""`wm-robot bench NAME`: measure, and say with what."""
