"""What can go wrong around a robot, done on purpose: to its numbers, its streams and its processes."""
