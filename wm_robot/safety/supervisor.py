"""Who acts: the learned controller as long as all is well, and the baseline as soon as it is not.

Source: Sha (2001), "Using simplicity to control complexity". Differs: when to switch is a table of events and not a
proof over the plant's model, and the way back is a person's.
"""

from collections import deque
from typing import NamedTuple

from wm_robot.safety.limit_violations import OF_ACTION, OF_OBSERVATION, Cut
from wm_robot.safety.modes import Event, Mode, next_mode
from wm_robot.spec import Safety

KEPT = 64
"""Changes of mode that are remembered."""


class Report(NamedTuple):
    """What one control period showed. Made in every period, and so no dataclass, which takes three times as long."""

    cuts: tuple[Cut, ...] = ()
    """By the gate, of the action of this period."""
    refused: str = ""
    """Why an action was refused before it came to the gate; empty if none was."""
    surprise: float | None = None
    """Negative log-likelihood of the newest observation, in nats per channel; None if nobody expected anything."""
    late: bool = False
    """The period's deadline was missed."""
    commanded: bool = False
    """A controller wants to act."""
    silent: bool = False
    """No controller wants to act any more."""
    homed: bool = False
    """The baseline is at home."""
    guard: str = ""
    """Why the guard has tripped; empty if it has not."""
    broken: str = ""
    """What controller or robot raised; empty if nothing."""


class Change(NamedTuple):
    """One change of mode."""

    step: int
    before: Mode
    after: Mode
    reason: str


class Supervisor:
    """Turns reports into events, and events into modes."""

    def __init__(self, safety: Safety, *, mode: Mode = Mode.LIMP):
        self.mode, self.reason, self.steps = mode, "started", 0
        self.changes: deque[Change] = deque(maxlen=KEPT)
        self._safety = safety
        self._asked: dict[Event, str] = {}
        self._surprised: deque[bool] = deque(maxlen=safety.surprises[1])
        self._late: deque[bool] = deque(maxlen=safety.misses[1])
        self._cut = 0

    def arm(self) -> None:
        """Ask for the next mode on the way to acting; it is answered at the next step, once."""
        self._asked[Event.ARM] = "somebody armed it"

    def disarm(self) -> None:
        """Ask for motors without power; it is answered at the next step, once."""
        self._asked[Event.DISARM] = "somebody disarmed it"

    def step(self, report: Report) -> Mode:
        """The mode of the next period."""
        self.steps += 1
        events = self._asked | self._seen(report)
        self._asked = {}
        mode, event = next_mode(self.mode, events)
        if event is not None:
            self.changes.append(Change(self.steps, self.mode, mode, events[event]))
            self.mode, self.reason = mode, events[event]
            self._forget()
        return self.mode

    def _seen(self, report: Report) -> dict[Event, str]:
        """Event → what happened, in words."""
        safety = self._safety
        surprised = report.surprise is not None and not report.surprise <= safety.surprise
        self._surprised.append(surprised)
        self._late.append(report.late)
        self._cut = self._cut + 1 if report.cuts else 0
        seen: dict[Event, str] = {}
        for cut in report.cuts:
            if cut.rule in OF_ACTION:
                seen[Event.REFUSED] = f"the gate refused an action ({cut})"
            if cut.rule in OF_OBSERVATION:
                seen[Event.STALE] = f"the gate refused to act on an observation ({cut})"
        if self._cut >= safety.cuts:
            seen[Event.CUTS] = f"the gate cut {self._cut} actions in a row (the last: {report.cuts[-1]})"
        if sum(self._surprised) >= safety.surprises[0]:
            seen[Event.SURPRISE] = (
                f"surprise above {safety.surprise:g} nats in {sum(self._surprised)} of {len(self._surprised)} steps"
            )
        if sum(self._late) >= safety.misses[0]:
            seen[Event.MISSES] = f"{sum(self._late)} of {len(self._late)} deadlines missed"
        for event, happened, words in (
            (Event.HOMED, report.homed, "it is at home"),
            (Event.COMMANDED, report.commanded, "a controller began"),
            (Event.SILENT, report.silent, "the controller fell silent"),
            (Event.REFUSED, report.refused, report.refused),
            (Event.GUARD, report.guard, report.guard),
            (Event.BROKEN, report.broken, report.broken),
        ):
            if happened:
                seen[event] = words
        return seen

    def _forget(self) -> None:
        """What counted towards the last change counts no more."""
        self._surprised.clear()
        self._late.clear()
        self._cut = 0

    @property
    def may_learn(self) -> bool:
        """Whether what happens now may be learned from."""
        return self.mode in (Mode.HOMING, Mode.READY, Mode.LEARNED)
