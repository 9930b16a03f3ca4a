"""Transition record: what an agent took as a transition, as text, so that a recording determines its updates."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.streams.transition_assembler import StampedTransition


@dataclass(frozen=True, kw_only=True)
class TransitionRecord:
    """Record of a transition. Its observations and its action are those of the stamps, if it has no other action."""

    start: int
    """Stamp of the observation before, in ns."""
    stamp: int
    valid: bool
    intervention: bool
    has_acted: bool
    """Whether the agent had acted before it took the transition."""
    surprise: float | None = None
    """In nats per channel; None if it is not known."""
    applied: np.ndarray | None = None
    """Action that the agent used in place of one that it did not have, `A`."""


def describe_transition(transition: StampedTransition, surprise: float, has_acted: bool) -> dict[str, Any]:
    """Return the plain values of a record."""
    values: dict[str, Any] = {
        "start": int(transition.start),
        "stamp": int(transition.stamp),
        "valid": bool(transition.valid),
        "intervention": bool(transition.intervention),
        "has_acted": bool(has_acted),
        "surprise": float(surprise),
    }
    if transition.is_unpaired:
        values["applied"] = [float(value) for value in transition.applied]
    return values


def parse_transition(text: str) -> TransitionRecord | None:
    """Read a record; None if it is not readable, since any program may publish text."""
    try:
        values = json.loads(text)
        return TransitionRecord(
            start=int(values["start"]),
            stamp=int(values["stamp"]),
            valid=bool(values["valid"]),
            intervention=bool(values["intervention"]),
            has_acted=bool(values["has_acted"]),
            surprise=float(values["surprise"]),
            applied=np.array(values["applied"], np.float32) if "applied" in values else None,
        )
    except (ValueError, KeyError, TypeError):
        return None
