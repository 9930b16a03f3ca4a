"""The robot as the control loop needs it."""

from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


@runtime_checkable
class Robot(Protocol):
    """A plant: a robot in MuJoCo or a real one. What is validated on one runs unchanged on the other."""

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def gate(self) -> Gate:
        """What every action goes through on its way to the motors, and what that cut."""

    @property
    def hold(self) -> np.ndarray:
        """The action in force, `A`."""

    def read(self) -> Observation:
        """What the sensors say now."""

    def write(self, action: np.ndarray) -> np.ndarray:
        """Ask for an action, `A`; returns what is applied over the coming period.

        It never raises for what it is asked: an action that is refused becomes a hold.
        """
