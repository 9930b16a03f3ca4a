"""Gated robot: passes every action to a driver through the action gate. There is no other path to the motors."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


@runtime_checkable
class PlantDriver(Protocol):
    """Plant that applies every action unchecked. It is not a `Robot`, so a control loop cannot use it directly."""

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def last_action(self) -> np.ndarray:
        """Action in force, `A`."""

    def read(self) -> Observation:
        """Return the current sensor readings."""

    def drive(self, action: np.ndarray) -> np.ndarray:
        """Apply an action over the coming period; return the applied action, `A`."""


class GatedRobot:
    """`Robot` made of a driver and a gate. The gate checks each action against the last reading."""

    def __init__(self, driver: PlantDriver, *, clock: Callable[[], float]):
        """Args:
        clock: In s; stamps the driver's observations. A monotonic clock: it is never set.
        """
        self._driver, self._clock = driver, clock
        self._obs: Observation | None = None
        self.gate = Gate(driver.spec, driver.last_action)

    @property
    def spec(self) -> RobotSpec:
        return self._driver.spec

    @property
    def last_action(self) -> np.ndarray:
        """Action in force, `A`."""
        return self._driver.last_action

    def read(self) -> Observation:
        """Return the current sensor readings."""
        self._obs = self._driver.read()
        return self._obs

    def write(self, action: Any) -> np.ndarray:
        """Write an action, `A`; return the action that is applied over the coming period.

        It never raises for any action: one that cannot be applied becomes a hold, and `gate.violations` has the
        reason. An action is rejected if the last `read` is older than `safety.max_age_periods`.
        """
        hold = self._driver.last_action
        if not np.array_equal(hold, self.gate.last_action):
            # The plant was moved by other means: a reset, or a driver that applied less than the command.
            self.gate.restart(hold)
        return self._driver.drive(self.gate(action, self._obs, now=self._clock()).applied)
