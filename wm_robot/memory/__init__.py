"""Lifetime state: the families of memory that write and read it, and the files that keep it."""
