"""Safety supervisor: selects the learned controller while no fault is present, and the fallback controller otherwise.

Source: Sha (2001), "Using simplicity to control complexity". Differs: a table of events decides when to switch,
instead of a proof over the plant's model, and a person decides when to switch back.
"""

from collections import deque
from typing import NamedTuple

from wm_robot.safety.limit_violations import ACTION_RULES, OBSERVATION_RULES, LimitViolation
from wm_robot.safety.modes import Mode, SafetyEvent, select_next_mode
from wm_robot.spec import Safety

MAX_CHANGES = 64
"""Number of mode changes that are stored."""


class PeriodReport(NamedTuple):
    """Facts of one control period that the supervisor evaluates.

    Made in every period, and so no dataclass, which takes three times as long.
    """

    violations: tuple[LimitViolation, ...] = ()
    """Limit violations of the action of this period."""
    rejection: str = ""
    """Why an action was rejected before it reached the gate; empty if none was."""
    surprise: float | None = None
    """Negative log-likelihood of the newest observation, in nats per channel; None without a prediction."""
    is_late: bool = False
    """The period's deadline was missed."""
    has_command: bool = False
    """A controller sends commands."""
    is_silent: bool = False
    """The controller stopped sending commands."""
    is_home: bool = False
    """The fallback controller is at home."""
    guard_reason: str = ""
    """Why the guard has stopped the plant; empty if it has not."""
    error: str = ""
    """Error that controller or robot raised; empty if none."""


class ModeChange(NamedTuple):
    """One change of the safety mode."""

    step: int
    previous_mode: Mode
    mode: Mode
    reason: str


class Supervisor:
    """Safety supervisor: converts reports to events, and events to modes."""

    def __init__(self, safety: Safety, *, mode: Mode = Mode.LIMP):
        self.mode, self.reason, self.num_steps = mode, "started", 0
        self.mode_changes: deque[ModeChange] = deque(maxlen=MAX_CHANGES)
        self._safety = safety
        self._requests: dict[SafetyEvent, str] = {}
        self._surprise_window: deque[bool] = deque(maxlen=safety.surprise_count_window[1])
        self._deadline_window: deque[bool] = deque(maxlen=safety.missed_deadline_count_window[1])
        self._num_limited_actions = 0

    def request_arming(self) -> None:
        """Request the next mode towards learned control; handled once, at the next step."""
        self._requests[SafetyEvent.ARM] = "a person armed the robot"

    def request_disarming(self) -> None:
        """Request motors without power; handled once, at the next step."""
        self._requests[SafetyEvent.DISARM] = "a person disarmed the robot"

    def step(self, report: PeriodReport) -> Mode:
        """Return the mode of the next period."""
        self.num_steps += 1
        events = self._requests | self._collect_events(report)
        self._requests = {}
        mode, event = select_next_mode(self.mode, events)
        if event is not None:
            self.mode_changes.append(ModeChange(self.num_steps, self.mode, mode, events[event]))
            self.mode, self.reason = mode, events[event]
            self._reset_counters()
        return self.mode

    def _collect_events(self, report: PeriodReport) -> dict[SafetyEvent, str]:
        """Collect the events of a report, each with its reason as text."""
        safety = self._safety
        surprised = report.surprise is not None and not report.surprise <= safety.surprise_threshold
        self._surprise_window.append(surprised)
        self._deadline_window.append(report.is_late)
        self._num_limited_actions = self._num_limited_actions + 1 if report.violations else 0
        seen: dict[SafetyEvent, str] = {}
        for violation in report.violations:
            if violation.rule in ACTION_RULES:
                seen[SafetyEvent.REJECTED] = f"the gate rejected an action ({violation})"
            if violation.rule in OBSERVATION_RULES:
                seen[SafetyEvent.STALE] = f"the gate rejected an observation ({violation})"
        if self._num_limited_actions >= safety.consecutive_violation_limit:
            seen[SafetyEvent.VIOLATIONS] = (
                f"the gate limited {self._num_limited_actions} actions in a row (the last: {report.violations[-1]})"
            )
        if sum(self._surprise_window) >= safety.surprise_count_window[0]:
            seen[SafetyEvent.SURPRISE] = (
                f"surprise above {safety.surprise_threshold:g} nats in {sum(self._surprise_window)} of "
                f"{len(self._surprise_window)} steps"
            )
        if sum(self._deadline_window) >= safety.missed_deadline_count_window[0]:
            seen[SafetyEvent.MISSED_DEADLINES] = (
                f"{sum(self._deadline_window)} of {len(self._deadline_window)} deadlines missed"
            )
        for event, happened, words in (
            (SafetyEvent.HOMED, report.is_home, "the fallback controller is at home"),
            (SafetyEvent.COMMANDED, report.has_command, "a controller started to send commands"),
            (SafetyEvent.SILENT, report.is_silent, "the controller stopped sending commands"),
            (SafetyEvent.REJECTED, report.rejection, report.rejection),
            (SafetyEvent.GUARD, report.guard_reason, report.guard_reason),
            (SafetyEvent.BROKEN, report.error, report.error),
        ):
            if happened:
                seen[event] = words
        return seen

    def _reset_counters(self) -> None:
        """Reset the counters after a change of mode."""
        self._surprise_window.clear()
        self._deadline_window.clear()
        self._num_limited_actions = 0

    @property
    def may_learn(self) -> bool:
        """Whether the current transitions may be learned from."""
        return self.mode in (Mode.HOMING, Mode.READY, Mode.LEARNED)
