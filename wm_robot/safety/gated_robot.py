"""A robot whose every action goes through the gate: there is no other way to its motors."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


@runtime_checkable
class Driver(Protocol):
    """A plant that does what it is told. It is no `Robot`, so that no control loop takes it for one."""

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def hold(self) -> np.ndarray:
        """The action in force, `A`."""

    def read(self) -> Observation:
        """What the sensors say now."""

    def drive(self, action: np.ndarray) -> np.ndarray:
        """Apply an action over the coming period, `A`; returns what is applied."""


class GatedRobot:
    """A `Robot` made of a driver. What it is asked for is judged by the reading that was taken last."""

    def __init__(self, driver: Driver, *, clock: Callable[[], float]):
        """Args:
        clock: In s, the one that stamps the driver's observations; nobody may set it.
        """
        self._driver, self._clock = driver, clock
        self._obs: Observation | None = None
        self.gate = Gate(driver.spec, driver.hold)

    @property
    def spec(self) -> RobotSpec:
        return self._driver.spec

    @property
    def hold(self) -> np.ndarray:
        """The action in force, `A`."""
        return self._driver.hold

    def read(self) -> Observation:
        """What the sensors say now."""
        self._obs = self._driver.read()
        return self._obs

    def write(self, action: Any) -> np.ndarray:
        """Ask for an action, `A`; returns what is applied over the coming period.

        It never raises for what it is asked: what cannot be applied becomes a hold, and `gate.cuts` says why.
        Whoever has not read for longer than `safety.max_age` drives blind, and is refused.
        """
        hold = self._driver.hold
        if not np.array_equal(hold, self.gate.hold):
            # Somebody put the plant elsewhere: a reset, or a driver that applied less than it was told.
            self.gate.begin(hold)
        return self._driver.drive(self.gate(action, self._obs, now=self._clock()).applied)
