"""Robot interface: a plant as the control loop calls it."""

from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


@runtime_checkable
class Robot(Protocol):
    """Plant: a robot in MuJoCo or a real one. Software that was validated on one runs unchanged on the other."""

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def gate(self) -> Gate:
        """Gate that limits every action before the motors, with its limit violations."""

    @property
    def last_action(self) -> np.ndarray:
        """Action in force, `A`."""

    def read(self) -> Observation:
        """Return the current sensor values."""

    def write(self, action: np.ndarray) -> np.ndarray:
        """Request an action, `A`, and return the action that is applied over the coming period, `A`.

        It raises for no action: a rejected action becomes a hold.
        """
