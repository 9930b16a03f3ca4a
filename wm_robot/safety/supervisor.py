"""Safety supervisor: selects the learned controller while no fault is present, and the fallback controller otherwise.

Source: Sha (2001), "Using simplicity to control complexity". Differs: a table of events decides when to switch,
instead of a proof over the plant's model, and a person decides when to switch back.
"""

from collections import deque
from typing import NamedTuple

from wm_robot.safety.limit_violations import OF_ACTION, OF_OBSERVATION, Cut
from wm_robot.safety.modes import Event, Mode, next_mode
from wm_robot.spec import Safety

KEPT = 64
"""Number of mode changes that are stored."""


class Report(NamedTuple):
    """Facts of one control period that the supervisor evaluates.

    Made in every period, and so no dataclass, which takes three times as long.
    """

    cuts: tuple[Cut, ...] = ()
    """Limit violations of the action of this period."""
    refused: str = ""
    """Why an action was rejected before it reached the gate; empty if none was."""
    surprise: float | None = None
    """Negative log-likelihood of the newest observation, in nats per channel; None without a prediction."""
    late: bool = False
    """The period's deadline was missed."""
    commanded: bool = False
    """A controller sends commands."""
    silent: bool = False
    """The controller stopped sending commands."""
    homed: bool = False
    """The fallback controller is at home."""
    guard: str = ""
    """Why the guard has stopped the plant; empty if it has not."""
    broken: str = ""
    """Error that controller or robot raised; empty if none."""


class Change(NamedTuple):
    """One change of the safety mode."""

    step: int
    before: Mode
    after: Mode
    reason: str


class Supervisor:
    """Safety supervisor: converts reports to events, and events to modes."""

    def __init__(self, safety: Safety, *, mode: Mode = Mode.LIMP):
        self.mode, self.reason, self.steps = mode, "started", 0
        self.changes: deque[Change] = deque(maxlen=KEPT)
        self._safety = safety
        self._asked: dict[Event, str] = {}
        self._surprised: deque[bool] = deque(maxlen=safety.surprises[1])
        self._late: deque[bool] = deque(maxlen=safety.misses[1])
        self._cut = 0

    def arm(self) -> None:
        """Request the next mode towards learned control; handled once, at the next step."""
        self._asked[Event.ARM] = "a person armed the robot"

    def disarm(self) -> None:
        """Request motors without power; handled once, at the next step."""
        self._asked[Event.DISARM] = "a person disarmed the robot"

    def step(self, report: Report) -> Mode:
        """Return the mode of the next period."""
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
        """Collect the events of a report, each with its reason as text."""
        safety = self._safety
        surprised = report.surprise is not None and not report.surprise <= safety.surprise
        self._surprised.append(surprised)
        self._late.append(report.late)
        self._cut = self._cut + 1 if report.cuts else 0
        seen: dict[Event, str] = {}
        for cut in report.cuts:
            if cut.rule in OF_ACTION:
                seen[Event.REFUSED] = f"the gate rejected an action ({cut})"
            if cut.rule in OF_OBSERVATION:
                seen[Event.STALE] = f"the gate rejected an observation ({cut})"
        if self._cut >= safety.cuts:
            seen[Event.CUTS] = f"the gate limited {self._cut} actions in a row (the last: {report.cuts[-1]})"
        if sum(self._surprised) >= safety.surprises[0]:
            seen[Event.SURPRISE] = (
                f"surprise above {safety.surprise:g} nats in {sum(self._surprised)} of {len(self._surprised)} steps"
            )
        if sum(self._late) >= safety.misses[0]:
            seen[Event.MISSES] = f"{sum(self._late)} of {len(self._late)} deadlines missed"
        for event, happened, words in (
            (Event.HOMED, report.homed, "the fallback controller is at home"),
            (Event.COMMANDED, report.commanded, "a controller started to send commands"),
            (Event.SILENT, report.silent, "the controller stopped sending commands"),
            (Event.REFUSED, report.refused, report.refused),
            (Event.GUARD, report.guard, report.guard),
            (Event.BROKEN, report.broken, report.broken),
        ):
            if happened:
                seen[event] = words
        return seen

    def _forget(self) -> None:
        """Reset the counters after a change of mode."""
        self._surprised.clear()
        self._late.clear()
        self._cut = 0

    @property
    def may_learn(self) -> bool:
        """Whether the current transitions may be learned from."""
        return self.mode in (Mode.HOMING, Mode.READY, Mode.LEARNED)
