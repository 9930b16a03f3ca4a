"""Memory: the lifetime state as a type, and the memory families that update and read it."""
