"""Agent events: log entries of adaptation for operators."""

from typing import NamedTuple

EVENTS = 100
"""Number of events that are stored; counters count all."""


class Event(NamedTuple):
    """Event of one agent: step, row and description."""

    step: int
    """Step of the session or of the lifetime, as its source counts."""
    life: int
    """Row of the batch; 0 for a single robot."""
    what: str
