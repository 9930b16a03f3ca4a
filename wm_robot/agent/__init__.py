"""Agent of a robot: plans with the world model and updates the lifetime state."""
