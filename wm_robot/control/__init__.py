"""Control loop of a robot: deadlines, real-time scheduling, idle tasks, period log."""
