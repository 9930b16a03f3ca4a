"""Control loop of a plant: read, arbitrate, write through the gate, report. The one place that catches errors.

The shipped plant nodes, the demo in one process, fault injection and tests run this loop. They differ in their
command source (`CommandSource`), in how they wait for a deadline, and in how they report a period.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.control.command_arbiter import CommandArbiter, GuardPage, format_error
from wm_robot.control.controller import Controller
from wm_robot.control.histogram import Histogram
from wm_robot.control.local_commands import LocalCommands
from wm_robot.control.period_log import PeriodRecord
from wm_robot.control.realtime import Deadlines
from wm_robot.control.robot import Robot
from wm_robot.safety.limit_violations import LimitViolation
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import Supervisor
from wm_robot.types import Observation


@runtime_checkable
class ReportPeriod(Protocol):
    """Callback with the result of each period: publishes it, or passes it to a controller that learns."""

    def __call__(
        self,
        obs: Observation | None,
        applied: np.ndarray | None,
        violations: tuple[LimitViolation, ...],
        latency: float,
    ) -> None:
        """Args:
        obs: Observation at the start of the period; None if reading failed.
        applied: Action applied over the period, `A`; None if writing failed.
        violations: Limit violations that the gate corrected.
        latency: Time from the deadline to the command, in s.
        """


class ControlLoop:
    """Control periods of one robot, with their arbiter, their reports and their run times."""

    def __init__(
        self,
        robot: Robot,
        arbiter: CommandArbiter,
        *,
        report: ReportPeriod,
        write: Callable[[Mode, Any], np.ndarray] | None = None,
        progress: Callable[[], None] = lambda: None,
        between_periods: Callable[[float], object] = lambda left: None,
        log: Callable[[PeriodRecord], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Args:
        write: Requests an action in a mode and returns the applied action; by default the robot's `write`. For a
            plant that is not moved in some modes.
        progress: Called at the end of every period, to report to the guard that the loop runs.
        between_periods: Called with the time that is left of a period, in s.
        log: Called with the log entry of every period.
        clock: Clock of the histograms, in s.
        """
        self.robot, self.arbiter = robot, arbiter
        self.lateness, self.latency, self.report_time = Histogram(), Histogram(), Histogram()
        """Times from deadline to start, from deadline to command, and of reporting, in ms; two need a log."""
        self.num_periods = self.num_skipped = self.max_skipped_in_row = 0
        """Number of periods, of skipped deadlines, and of skipped deadlines in a row at most."""
        self._report, self._write = report, write or _make_write(robot)
        self._progress, self._between_periods, self._log, self._clock = progress, between_periods, log, clock
        self._violations: tuple[LimitViolation, ...] = ()
        """Limit violations of the last action."""
        self._fault = ""
        """First error since the last step of the arbiter."""

    @property
    def mode(self) -> Mode:
        return self.arbiter.mode

    @property
    def supervisor(self) -> Supervisor:
        return self.arbiter.supervisor

    def run(
        self, deadlines: Deadlines, should_end: Callable[[], bool], wait: Callable[[], None] | None = None
    ) -> None:
        """Run one period at each deadline until the loop is to end. Skipped deadlines are not made up for.

        Args:
            should_end: Whether the loop is to end.
            wait: Waits for the next deadline. It may return earlier, and is then called again.
        """
        wait = wait or (lambda: deadlines.wait_for_next(self._progress))
        while not should_end():
            if self.arbiter.guard_reason():
                self.arbiter.stop_if_required(self.robot.last_action)
            wait()
            if deadlines.time_left() > 0:
                continue
            late, skipped = deadlines.advance_to_next()
            self.lateness.add_duration(1e3 * late)
            self.num_skipped += skipped
            self.max_skipped_in_row = max(self.max_skipped_in_row, skipped)
            self.run_period(late=skipped > 0, lateness=late)
            self._between_periods(deadlines.time_left())

    def run_period(self, *, late: bool = False, lateness: float = 0.0) -> Mode:
        """Run one control period.

        Args:
            late: Whether a deadline was missed before it.
            lateness: Time since its deadline, in s.

        Returns:
            Mode of this period. Errors in this period decide the mode of the next one.
        """
        began = self._clock()
        gate = self.robot.gate
        obs = self._call_guarded(self.robot.read)
        broken, self._fault = self._fault, ""
        mode, action = self.arbiter.step(
            obs, self.robot.last_action, violations=self._violations, late=late, fault=broken
        )
        acted = self._clock()
        # Without a write there are no limit violations.
        gate.clear_violations()
        applied = self._call_guarded(self._write, mode, action)
        violations = self._violations = gate.violations
        commanded = self._clock()
        latency = lateness + commanded - began
        self._call_guarded(self._report, obs, applied, violations, latency)
        self.num_periods += 1
        if self._log is not None:
            times = (lateness, latency, acted - began, self._clock() - commanded)
            self._log(self._make_log_entry(obs, mode, violations, times))
        self._progress()
        return mode

    def _make_log_entry(
        self,
        obs: Observation | None,
        mode: Mode,
        violations: tuple[LimitViolation, ...],
        times: tuple[float, float, float, float],
    ) -> PeriodRecord:
        """Add the times of a period to the histograms, and return its log entry.

        Args:
            times: From the deadline to the start and to the command, of deciding and of reporting, in s.
        """
        late_ms, latency_ms, act_ms, learn_ms = (1e3 * each for each in times)
        self.latency.add_duration(latency_ms)
        self.report_time.add_duration(learn_ms)
        surprise = self.arbiter.source.surprise
        return PeriodRecord(
            stamp=_stamp_ns(obs),
            late_ms=late_ms,
            latency_ms=latency_ms,
            act_ms=act_ms,
            learn_ms=learn_ms,
            surprise=math.nan if surprise is None else surprise,
            mode=mode,
            violations=tuple(violation.rule for violation in violations),
        )

    def _call_guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of a call; None if it raises. The arbiter gets the error as a fault."""
        try:
            return function(*arguments)
        except Exception as error:
            self._fault = self._fault or format_error(error)
            return None


def make_local_loop(
    robot: Robot,
    controller: Controller,
    *,
    guard: GuardPage | None = None,
    progress: Callable[[], None] = lambda: None,
    between_periods: Callable[[float], object] = lambda left: None,
    log: Callable[[PeriodRecord], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ControlLoop:
    """Create a control loop with its controller in the same process, which acts in each period and then learns.

    The arguments are those of `ControlLoop` and `CommandArbiter`.
    """
    source = LocalCommands(controller, robot.spec)
    arbiter = CommandArbiter(robot.spec, source, robot.last_action, guard=guard)

    def learn_period(
        obs: Observation | None,
        applied: np.ndarray | None,
        violations: tuple[LimitViolation, ...],
        latency: float,
    ) -> None:
        source.learn_transition(
            obs,
            applied,
            latency=latency,
            may_learn=arbiter.may_learn,
            intervened=arbiter.has_intervened(violations),
        )

    return ControlLoop(
        robot,
        arbiter,
        report=learn_period,
        progress=progress,
        between_periods=between_periods,
        log=log,
        clock=clock,
    )


def _make_write(robot: Robot) -> Callable[[Mode, Any], np.ndarray]:
    return lambda mode, action: robot.write(action)


def _stamp_ns(obs: Observation | None) -> int:
    """Return the stamp of an observation in ns; 0 if it has none."""
    return round(1e9 * obs.stamp) if obs is not None and math.isfinite(obs.stamp) else 0
