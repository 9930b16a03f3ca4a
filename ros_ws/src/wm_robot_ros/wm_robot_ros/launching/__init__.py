"""Launching: launch graphs, which list the nodes that run together, and their start and stop."""
