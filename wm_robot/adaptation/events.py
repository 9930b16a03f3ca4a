"""Agent events: log entries of adaptation for operators."""

from typing import NamedTuple

MAX_EVENTS = 100
"""Number of events that are stored; counters count all."""


class AgentEvent(NamedTuple):
    """Event of one agent: step, row and description."""

    step: int
    """Step of the session or of the lifetime, as its source counts."""
    row: int
    """Row of the batch; 0 for a single robot."""
    description: str
