"""Recorded experience: episode files, session files (MCAP), recovery."""
