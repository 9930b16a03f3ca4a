"""The control loop: deadlines, real time, idle tasks, period log."""
