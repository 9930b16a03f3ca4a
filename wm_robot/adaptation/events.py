"""What happened in a life that people should know of."""

from typing import NamedTuple

EVENTS = 100
"""The last ones are kept; counters count them all."""


class Event(NamedTuple):
    """One of them."""

    step: int
    """Of the session or of the life, as its source counts."""
    life: int
    """Which of lives side by side; 0 for a robot's own."""
    what: str
