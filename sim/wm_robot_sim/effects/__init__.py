"""Undeclared effects: changes of a simulated robot that no spec declares, for wide training and for tests."""
