"""Control loop of a plant: read, arbitrate, write through the gate, report. The one place that catches errors.

The shipped plant nodes, the demo in one process, fault injection and tests run this loop. They differ in their
command source (`CommandSource`), in how they wait for a deadline, and in how they report a period.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.control.command_arbiter import CommandArbiter, GuardPage, describe
from wm_robot.control.controller import Controller
from wm_robot.control.histogram import Histogram
from wm_robot.control.local_commands import LocalCommands
from wm_robot.control.period_log import Period
from wm_robot.control.realtime import Deadlines
from wm_robot.control.robot import Robot
from wm_robot.safety.limit_violations import Cut
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import Supervisor
from wm_robot.types import Observation


@runtime_checkable
class ReportPeriod(Protocol):
    """Callback with the result of each period: publishes it, or passes it to a controller that learns."""

    def __call__(
        self, obs: Observation | None, applied: np.ndarray | None, cuts: tuple[Cut, ...], latency: float
    ) -> None:
        """Args:
        obs: Observation at the start of the period; None if reading failed.
        applied: Action applied over the period, `A`; None if writing failed.
        cuts: Limit violations that the gate corrected.
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
        tidy: Callable[[float], object] = lambda left: None,
        log: Callable[[Period], None] | None = None,
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
        self.lateness, self.latency, self.live_time = Histogram(), Histogram(), Histogram()
        """Times from deadline to start, from deadline to command, and of reporting, in ms; two need a log."""
        self.periods = self.skipped = self.longest_skip = 0
        """Number of periods, of skipped deadlines, and of skipped deadlines in a row at most."""
        self._report, self._write = report, write or _write_to(robot)
        self._progress, self._tidy, self._log, self._clock = progress, tidy, log, clock
        self._cuts: tuple[Cut, ...] = ()
        """Limit violations of the last action."""
        self._broken = ""
        """First error since the last step of the arbiter."""

    @property
    def mode(self) -> Mode:
        return self.arbiter.mode

    @property
    def supervisor(self) -> Supervisor:
        return self.arbiter.supervisor

    def run(
        self, deadlines: Deadlines, ended: Callable[[], bool], wait: Callable[[], None] | None = None
    ) -> None:
        """Run one period at each deadline until the loop is to end. Skipped deadlines are not made up for.

        Args:
            ended: Whether the loop is to end.
            wait: Waits for the next deadline. It may return earlier, and is then called again.
        """
        wait = wait or (lambda: deadlines.wait(self._progress))
        while not ended():
            if self.arbiter.guard_reason():
                self.arbiter.stop(self.robot.hold)
            wait()
            if deadlines.left() > 0:
                continue
            late, skipped = deadlines.reached()
            self.lateness.add(1e3 * late)
            self.skipped += skipped
            self.longest_skip = max(self.longest_skip, skipped)
            self.step(late=skipped > 0, behind=late)
            self._tidy(deadlines.left())

    def step(self, *, late: bool = False, behind: float = 0.0) -> Mode:
        """Run one control period.

        Args:
            late: Whether a deadline was missed before it.
            behind: Time since its deadline, in s.

        Returns:
            Mode of this period. Errors in this period decide the mode of the next one.
        """
        began = self._clock()
        gate = self.robot.gate
        obs = self._attempt(self.robot.read)
        broken, self._broken = self._broken, ""
        mode, action = self.arbiter.step(obs, self.robot.hold, cuts=self._cuts, late=late, broken=broken)
        acted = self._clock()
        # Without a write there are no limit violations.
        gate.clear_cuts()
        applied = self._attempt(self._write, mode, action)
        cuts = self._cuts = gate.cuts
        commanded = self._clock()
        latency = behind + commanded - began
        self._attempt(self._report, obs, applied, cuts, latency)
        self.periods += 1
        if self._log is not None:
            times = (behind, latency, acted - began, self._clock() - commanded)
            self._log(self._record(obs, mode, cuts, times))
        self._progress()
        return mode

    def _record(
        self,
        obs: Observation | None,
        mode: Mode,
        cuts: tuple[Cut, ...],
        times: tuple[float, float, float, float],
    ) -> Period:
        """Add the times of a period to the histograms, and return its log entry.

        Args:
            times: From the deadline to the start and to the command, of deciding and of reporting, in s.
        """
        late_ms, latency_ms, act_ms, live_ms = (1e3 * each for each in times)
        self.latency.add(latency_ms)
        self.live_time.add(live_ms)
        surprise = self.arbiter.source.surprise
        return Period(
            stamp=_nanoseconds(obs),
            late_ms=late_ms,
            latency_ms=latency_ms,
            act_ms=act_ms,
            live_ms=live_ms,
            surprise=math.nan if surprise is None else surprise,
            mode=mode,
            cuts=tuple(cut.rule for cut in cuts),
        )

    def _attempt(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of a call; None if it raises. The arbiter gets the error as a fault."""
        try:
            return work(*arguments)
        except Exception as error:
            self._broken = self._broken or describe(error)
            return None


def make_local_loop(
    robot: Robot,
    controller: Controller,
    *,
    guard: GuardPage | None = None,
    progress: Callable[[], None] = lambda: None,
    tidy: Callable[[float], object] = lambda left: None,
    log: Callable[[Period], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ControlLoop:
    """Create a control loop with its controller in the same process, which acts in each period and then learns.

    The arguments are those of `ControlLoop` and `CommandArbiter`.
    """
    source = LocalCommands(controller, robot.spec.dt)
    arbiter = CommandArbiter(robot.spec, source, robot.hold, guard=guard)

    def learn(
        obs: Observation | None, applied: np.ndarray | None, cuts: tuple[Cut, ...], latency: float
    ) -> None:
        source.learn(
            obs,
            applied,
            latency=latency,
            may_learn=arbiter.may_learn,
            intervened=arbiter.intervened(cuts),
        )

    return ControlLoop(robot, arbiter, report=learn, progress=progress, tidy=tidy, log=log, clock=clock)


def _write_to(robot: Robot) -> Callable[[Mode, Any], np.ndarray]:
    return lambda mode, action: robot.write(action)


def _nanoseconds(obs: Observation | None) -> int:
    """Return the stamp of an observation in ns; 0 if it has none."""
    return round(1e9 * obs.stamp) if obs is not None and math.isfinite(obs.stamp) else 0
