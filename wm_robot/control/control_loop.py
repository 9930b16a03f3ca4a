"""The control loop of a plant: read, arbitrate, write through the gate, report. The one place that catches errors.

The shipped plant nodes, the demo in one process, fault injection and tests run this loop. They differ in where
commands come from (`CommandSource`), in how they wait for a deadline, and in what they do with a period's outcome.
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
    """Takes the outcome of each period: publishes it, or has a controller learn from it."""

    def __call__(
        self, obs: Observation | None, applied: np.ndarray | None, cuts: tuple[Cut, ...], latency: float
    ) -> None:
        """Args:
        obs: As it was read at the beginning of the period; None if that failed.
        applied: What is applied over the period, `A`; None if writing failed.
        cuts: What the gate did to the action.
        latency: From the deadline to the command, in s.
        """


class ControlLoop:
    """One control period after another."""

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
        write: Asks for an action in a mode and returns what is applied; by default the robot's `write`. For a plant
            that is left alone in some modes.
        progress: Called at the end of every period: the guard hears it.
        tidy: Called with the time that is left of a period, in s.
        log: Called with every period.
        clock: In s, for the histograms of times.
        """
        self.robot, self.arbiter = robot, arbiter
        self.lateness, self.latency, self.live_time = Histogram(), Histogram(), Histogram()
        """From the deadline to the beginning; and, where there is a log, to the command, and of reporting. In ms."""
        self.periods = self.skipped = self.longest_skip = 0
        """Periods so far; deadlines without a period of their own, in all and at most in a row."""
        self._report, self._write = report, write or _write_to(robot)
        self._progress, self._tidy, self._log, self._clock = progress, tidy, log, clock
        self._cuts: tuple[Cut, ...] = ()
        """What the gate did to the last action."""
        self._broken = ""
        """What was raised since the arbiter was last asked."""

    @property
    def mode(self) -> Mode:
        return self.arbiter.mode

    @property
    def supervisor(self) -> Supervisor:
        return self.arbiter.supervisor

    def run(
        self, deadlines: Deadlines, ended: Callable[[], bool], wait: Callable[[], None] | None = None
    ) -> None:
        """One period after another, each at its deadline, until it is to end. Skipped deadlines are not made up for.

        Args:
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
        """One control period.

        Args:
            late: Whether a deadline was missed before it.
            behind: Time since its deadline, in s.

        Returns:
            The mode of this period. What goes wrong in it decides the mode of the next.
        """
        began = self._clock()
        gate = self.robot.gate
        obs = self._attempt(self.robot.read)
        broken, self._broken = self._broken, ""
        mode, action = self.arbiter.step(obs, self.robot.hold, cuts=self._cuts, late=late, broken=broken)
        acted = self._clock()
        # Where nothing is written, nothing is cut.
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
        """A period for the log; its times are added to the histograms.

        Args:
            times: From the deadline to the beginning and to the command, of deciding and of reporting, in s.
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
        """What the work returns; None if it raises, which the arbiter is given as a fault."""
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
    """A control loop with its controller in the same process, which acts in each period and then learns.

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
    """Time of an observation; 0 where it has none."""
    return round(1e9 * obs.stamp) if obs is not None and math.isfinite(obs.stamp) else 0
