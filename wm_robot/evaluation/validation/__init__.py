"""Validation: whether a base with its lifetime state may drive a robot, by a battery of checks in simulation."""
