"""Robots whose weights hold the ability to learn, and whose state holds what they learned."""

__version__ = "0.1.0"
