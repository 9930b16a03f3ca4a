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


class Event(str, Enum):
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
    REFUSED = "refused"
    """The gate rejected an action."""
    CUTS = "cuts"
    """The gate limited too many actions in a row."""
    SURPRISE = "surprise"
    """Too many observations had a large prediction error."""
    STALE = "stale"
    """No valid observation shows the state of the robot."""
    MISSES = "misses"
    """Too many deadlines were missed."""
    BROKEN = "broken"
    """The controller or the robot raised an error."""
    GUARD = "guard"
    """The guard has stopped the plant, or does not run."""


FAULTS = frozenset(
    {Event.REFUSED, Event.CUTS, Event.SURPRISE, Event.STALE, Event.MISSES, Event.BROKEN, Event.GUARD}
)
MOVING = (Mode.HOMING, Mode.READY, Mode.LEARNED)

TABLE: dict[tuple[Mode, Event], Mode] = {
    (Mode.LIMP, Event.ARM): Mode.HOMING,
    (Mode.HOLD, Event.ARM): Mode.READY,
    (Mode.SAFE_STOP, Event.ARM): Mode.HOMING,
    (Mode.HOMING, Event.HOMED): Mode.READY,
    (Mode.READY, Event.COMMANDED): Mode.LEARNED,
    (Mode.LEARNED, Event.SILENT): Mode.READY,
    # Surprise counts for the learned controller only: the fallback controller predicts nothing.
    (Mode.LEARNED, Event.SURPRISE): Mode.HOLD,
    **{(mode, event): Mode.HOLD for mode in MOVING for event in FAULTS - {Event.SURPRISE, Event.GUARD}},
    **{(mode, Event.GUARD): Mode.SAFE_STOP for mode in Mode},
    **{(mode, Event.DISARM): Mode.LIMP for mode in Mode},
}
"""Mode and event → next mode; an event that is not listed changes nothing."""


def next_mode(mode: Mode, events: Collection[Event]) -> tuple[Mode, Event | None]:
    """Return the next mode, and the event that decided it; None if nothing changes.

    The most severe mode wins. A robot cannot be armed while a fault lasts.
    """
    faulty = any(event in FAULTS for event in events)
    order = list(Mode)
    chosen: tuple[Mode, Event | None] = mode, None
    for event in Event:
        target = TABLE.get((mode, event), mode)
        if event not in events or target is mode or (faulty and event is Event.ARM):
            continue
        if chosen[1] is None or order.index(target) > order.index(chosen[0]):
            chosen = target, event
    return chosen
