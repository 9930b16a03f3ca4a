"""The control loop: sense, decide, gate, apply, judge, live. The one place where errors are caught."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.errors import WmRobotError
from wm_robot.onboard.robot import Robot
from wm_robot.safety.baseline import Baseline
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

    def live(self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool) -> float:
        """Live a transition; returns its surprise, in nats per channel.

        Args:
            valid: Whether it may be learned from.
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
    ):
        """Args:
        progress: Called at the end of every period: the guard hears it.
        stopped: Why the guard has stopped the plant; empty if it has not.
        """
        self.robot, self.controller = robot, controller
        self.supervisor = Supervisor(robot.spec.safety)
        self._progress, self._stopped = progress, stopped
        self._baseline = Baseline(robot.spec, robot.gate.hold)
        self._last: tuple[Observation, np.ndarray] | None = None
        """The observation of the period before, and what was applied on it."""
        self._dt, self._broken = robot.spec.dt, ""

    @property
    def mode(self) -> Mode:
        return self.supervisor.mode

    def step(self, *, late: bool = False) -> Mode:
        """One control period.

        Args:
            late: Whether its deadline was missed.

        Returns:
            The mode of the next.
        """
        before, self._broken = self.mode, ""
        obs = self._tried(self.robot.read)
        applied = self._tried(self.robot.write, self._decide(obs))
        surprise = self._tried(self._live, obs, applied)
        after = self.supervisor.step(
            Report(
                cuts=self.robot.gate.cuts,
                surprise=surprise,
                late=late,
                commanded=True,
                homed=self._baseline.homed,
                guard=self._stopped(),
                broken=self._broken,
            )
        )
        if after is not before:
            self._enter(after)
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
        last, self._last = self._last, None if obs is None or applied is None else (obs, applied)
        if last is None or obs is None:
            return None
        before, action = last
        if not (np.isfinite(before.values).all() and np.isfinite(obs.values).all()):
            return None
        whole = self._dt / GAP <= obs.stamp - before.stamp <= self._dt * GAP
        valid = whole and self.supervisor.may_learn
        surprise = self.controller.live(before.values, action, obs.values, valid=valid)
        return surprise if whole else None


def _told(error: Exception) -> str:
    """What went wrong, in words. An error of ours says it itself."""
    return str(error) if isinstance(error, WmRobotError) else f"{type(error).__name__}: {error}"
