"""Graphs of a base: made by torch, and compared with it. No robot needs this part."""
