"""The control loop: sense, decide, gate, apply, judge, live. The one place where errors are caught."""

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.control.period_log import Period
from wm_robot.control.realtime import Deadlines
from wm_robot.control.robot import Robot
from wm_robot.control.timing import Histogram
from wm_robot.errors import WmRobotError
from wm_robot.safety.fallback import Baseline
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import Report, Supervisor
from wm_robot.types import Observation

GAP = 1.5
"""Times longer or shorter than a period that a step may be and still be learned from."""


@runtime_checkable
class Controller(Protocol):
    """What acts in mode `learned`."""

    def act(self, obs: np.ndarray) -> np.ndarray:
        """The next action, `A`, for an observation, `O`."""

    def live(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, contact: bool
    ) -> float:
        """Live a transition; returns its surprise, in nats per channel.

        Args:
            valid: Whether it may be learned from.
            contact: Whether gate or baseline came between controller and robot.
        """


class ControlLoop:
    """One control period after another, under a supervisor."""

    def __init__(
        self,
        robot: Robot,
        controller: Controller,
        *,
        progress: Callable[[], None] = lambda: None,
        stopped: Callable[[], str] = lambda: "",
        tidy: Callable[[float], object] = lambda left: None,
        log: Callable[[Period], None] = lambda period: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Args:
        progress: Called at the end of every period: the guard hears it.
        stopped: Why the guard has stopped the plant; empty if it has not.
        tidy: Called with the time that is left of a period, in s.
        log: Called with every period.
        clock: In s, for what is told of times.
        """
        self.robot, self.controller = robot, controller
        self.supervisor = Supervisor(robot.spec.safety)
        self.latency, self.lateness, self.live_time = Histogram(), Histogram(), Histogram()
        """From the deadline to the command, to the beginning, and of living, in ms."""
        self._progress, self._stopped, self._tidy = progress, stopped, tidy
        self._log, self._clock = log, clock
        self._baseline = Baseline(robot.spec, robot.gate.hold)
        self._last: tuple[Observation, np.ndarray, bool] | None = None
        """The observation of the period before, what was applied on it, and whether that was the gate's."""
        self._dt, self._broken = robot.spec.dt, ""

    @property
    def mode(self) -> Mode:
        return self.supervisor.mode

    def run(self, deadlines: Deadlines, ended: Callable[[], bool]) -> None:
        """One period after another, each at its deadline, until it is to end."""
        while not ended():
            deadlines.wait(self._progress)
            late, skipped = deadlines.reached()
            self.lateness.add(1e3 * late)
            self.step(late=skipped > 0, behind=late)
            self._tidy(deadlines.left())

    def step(self, *, late: bool = False, behind: float = 0.0) -> Mode:
        """One control period.

        Args:
            late: Whether a deadline was missed before it; a command that comes after the next one is late by itself.
            behind: Time since its deadline, in s.

        Returns:
            The mode of the next.
        """
        before, self._broken = self.mode, ""
        began = self._clock()
        obs = self._tried(self.robot.read)
        asked = self._decide(obs)
        acted = self._clock()
        applied = self._tried(self.robot.write, asked)
        commanded = self._clock()
        surprise = self._tried(self._live, obs, applied)
        lived = self._clock()
        latency, cuts = behind + commanded - began, self.robot.gate.cuts
        after = self.supervisor.step(
            Report(
                cuts=cuts,
                surprise=surprise,
                late=late or latency > self._dt,
                commanded=True,
                homed=self._baseline.homed,
                guard=self._stopped(),
                broken=self._broken,
            )
        )
        if self._last is not None:
            # Only now is it known what became of what was just applied.
            self._last = (*self._last[:2], self.supervisor.contact)
        if after is not before:
            self._enter(after)
        self.latency.add(1e3 * latency)
        self.live_time.add(1e3 * (lived - commanded))
        self._log(
            Period(
                stamp=_nanoseconds(obs),
                late_ms=1e3 * behind,
                latency_ms=1e3 * latency,
                act_ms=1e3 * (acted - began),
                live_ms=1e3 * (lived - commanded),
                surprise=math.nan if surprise is None else surprise,
                mode=before,
                cuts=tuple(cut.rule for cut in cuts),
            )
        )
        self._progress()
        return after

    def _decide(self, obs: Observation | None) -> Any:
        """What to ask for: the controller's action when it is its turn, and the baseline's in all other cases."""
        if self.mode is Mode.LEARNED:
            if obs is not None:
                try:
                    return self.controller.act(obs.values)
                except Exception as error:
                    self._broken = _told(error)
            self._baseline.stay(self.robot.gate.hold)
        return self._baseline.act()

    def _tried(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What it returns; None if it raised, and then that is told."""
        try:
            return work(*arguments)
        except Exception as error:
            self._broken = _told(error)
            return None

    def _enter(self, mode: Mode) -> None:
        if mode is Mode.HOMING:
            self._baseline.go_home(self.robot.gate.hold)
        else:
            self._baseline.stay(self.robot.gate.hold)

    def _live(self, obs: Observation | None, applied: np.ndarray | None) -> float | None:
        """Have the controller live what came of the action before; its surprise, if it could be expected."""
        last, self._last = self._last, None if obs is None or applied is None else (obs, applied, False)
        if last is None or obs is None:
            return None
        before, action, contact = last
        if not (np.isfinite(before.values).all() and np.isfinite(obs.values).all()):
            return None
        whole = self._dt / GAP <= obs.stamp - before.stamp <= self._dt * GAP
        valid = whole and self.supervisor.may_learn
        surprise = self.controller.live(before.values, action, obs.values, valid=valid, contact=contact)
        return surprise if whole else None


def _told(error: Exception) -> str:
    """What went wrong, in words. An error of ours says it itself."""
    return str(error) if isinstance(error, WmRobotError) else f"{type(error).__name__}: {error}"


def _nanoseconds(obs: Observation | None) -> int:
    """When it was sensed; 0 if nobody can say."""
    return round(1e9 * obs.stamp) if obs is not None and math.isfinite(obs.stamp) else 0
