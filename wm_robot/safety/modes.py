"""What a robot may be doing, what can happen to it, and what it does then. Pure: a table and how it is read."""

from collections.abc import Collection
from enum import Enum


class Mode(str, Enum):
    """From the least severe to the most: where events lead to several, the last of these wins."""

    LIMP = "limp"
    """Motors without power, or told nothing."""
    HOMING = "homing"
    """The baseline goes home."""
    READY = "ready"
    """The baseline holds; a controller may begin."""
    LEARNED = "learned"
    """The learned controller acts."""
    HOLD = "hold"
    """The baseline holds; nobody acts until somebody arms it again."""
    SAFE_STOP = "safe-stop"
    """The plant is stopped by the guard; it goes on by way of homing, and only if somebody arms it again."""


class Event(str, Enum):
    """What a period can bring."""

    ARM = "arm"
    """A person asks."""
    DISARM = "disarm"
    """A person asks."""
    HOMED = "homed"
    COMMANDED = "commanded"
    """A controller wants to act."""
    SILENT = "silent"
    """No controller wants to act any more."""
    REFUSED = "refused"
    """The gate refused an action."""
    CUTS = "cuts"
    """The gate has cut too many actions in a row."""
    SURPRISE = "surprise"
    """Too many observations were not expected at all."""
    STALE = "stale"
    """Nobody can say what the robot does."""
    MISSES = "misses"
    """Too many deadlines were missed."""
    BROKEN = "broken"
    """The controller or the robot raised an error."""
    GUARD = "guard"
    """The guard has tripped, or is gone."""


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
    # Surprise is the learned controller's: the baseline expects nothing.
    (Mode.LEARNED, Event.SURPRISE): Mode.HOLD,
    **{(mode, event): Mode.HOLD for mode in MOVING for event in FAULTS - {Event.SURPRISE, Event.GUARD}},
    **{(mode, Event.GUARD): Mode.SAFE_STOP for mode in Mode},
    **{(mode, Event.DISARM): Mode.LIMP for mode in Mode},
}
"""Mode and event → mode; what is not listed changes nothing."""


def next_mode(mode: Mode, events: Collection[Event]) -> tuple[Mode, Event | None]:
    """The mode that follows, and the event that decided it; None if nothing changes.

    The most severe mode wins. Nobody arms a robot while a fault lasts.
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
