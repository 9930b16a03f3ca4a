"""Launch graphs: which nodes run together, and how they are started and stopped."""
