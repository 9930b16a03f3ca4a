"""Safety modes: the modes of a robot, the events of a period, and the transition table. Pure functions."""

from collections.abc import Collection
from enum import Enum


class Mode(str, Enum):
    """Safety modes, from the least severe to the most: if events lead to several modes, the most severe wins."""

    LIMP = "limp"
    """Motors without power, or without commands."""
    HOMING = "homing"
    """The fallback controller moves home."""
    READY = "ready"
    """The fallback controller holds; a controller may start."""
    LEARNED = "learned"
    """The learned controller acts."""
    HOLD = "hold"
    """The fallback controller holds; no controller acts until a person arms the robot again."""
    SAFE_STOP = "safe-stop"
    """The guard has stopped the plant; it continues with homing, and only after a person arms the robot again."""


class SafetyEvent(str, Enum):
    """Events that a control period can report to the supervisor."""

    ARM = "arm"
    """A person requests the next mode."""
    DISARM = "disarm"
    """A person requests motors without power."""
    HOMED = "homed"
    COMMANDED = "commanded"
    """A controller sends commands."""
    SILENT = "silent"
    """The controller stopped sending commands."""
    REJECTED = "rejected"
    """The gate rejected an action."""
    VIOLATIONS = "violations"
    """The gate limited too many actions in a row."""
    SURPRISE = "surprise"
    """Too many observations had a large prediction error."""
    STALE = "stale"
    """No valid observation shows the state of the robot."""
    MISSED_DEADLINES = "missed_deadlines"
    """Too many deadlines were missed."""
    BROKEN = "broken"
    """The controller or the robot raised an error."""
    GUARD = "guard"
    """The guard has stopped the plant, or does not run."""


FAULT_EVENTS = frozenset(
    {
        SafetyEvent.REJECTED,
        SafetyEvent.VIOLATIONS,
        SafetyEvent.SURPRISE,
        SafetyEvent.STALE,
        SafetyEvent.MISSED_DEADLINES,
        SafetyEvent.BROKEN,
        SafetyEvent.GUARD,
    }
)
MOVING_MODES = (Mode.HOMING, Mode.READY, Mode.LEARNED)

TRANSITIONS: dict[tuple[Mode, SafetyEvent], Mode] = {
    (Mode.LIMP, SafetyEvent.ARM): Mode.HOMING,
    (Mode.HOLD, SafetyEvent.ARM): Mode.READY,
    (Mode.SAFE_STOP, SafetyEvent.ARM): Mode.HOMING,
    (Mode.HOMING, SafetyEvent.HOMED): Mode.READY,
    (Mode.READY, SafetyEvent.COMMANDED): Mode.LEARNED,
    (Mode.LEARNED, SafetyEvent.SILENT): Mode.READY,
    # Surprise counts for the learned controller only: the fallback controller predicts nothing.
    (Mode.LEARNED, SafetyEvent.SURPRISE): Mode.HOLD,
    **{
        (mode, event): Mode.HOLD
        for mode in MOVING_MODES
        for event in FAULT_EVENTS - {SafetyEvent.SURPRISE, SafetyEvent.GUARD}
    },
    **{(mode, SafetyEvent.GUARD): Mode.SAFE_STOP for mode in Mode},
    **{(mode, SafetyEvent.DISARM): Mode.LIMP for mode in Mode},
}
"""Mode and event → next mode; an event that is not listed changes nothing."""


def select_next_mode(mode: Mode, events: Collection[SafetyEvent]) -> tuple[Mode, SafetyEvent | None]:
    """Return the next mode, and the event that decided it; None if nothing changes.

    The most severe mode wins. A robot cannot be armed while a fault lasts.
    """
    faulty = any(event in FAULT_EVENTS for event in events)
    order = list(Mode)
    chosen: tuple[Mode, SafetyEvent | None] = mode, None
    for event in SafetyEvent:
        target = TRANSITIONS.get((mode, event), mode)
        if event not in events or target is mode or (faulty and event is SafetyEvent.ARM):
            continue
        if chosen[1] is None or order.index(target) > order.index(chosen[0]):
            chosen = target, event
    return chosen
