"""Controller driver: the controllers of ros2_control as a plant driver for the gate."""

from collections.abc import Callable

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


class ControllerDriver:
    """Plant driver for the gate: the newest observation, and the command topic of the controllers."""

    def __init__(self, spec: RobotSpec, first: Observation, send: Callable[[np.ndarray], None]):
        self.spec, self.newest_obs, self._send = spec, first, send
        self.follow_measured()

    def follow_measured(self) -> None:
        """Set the action in force to the measured positions, while other software moves the robot."""
        places = dict(zip(self.spec.observation_names, self.newest_obs.values, strict=True))
        told = [places[f"{a.joint}/position"] if a.is_servo else 0.0 for a in self.spec.actuators]
        self.last_action = np.clip(np.array(told, np.float32), self.spec.action_low, self.spec.action_high)

    def read(self) -> Observation:
        return self.newest_obs

    def drive(self, action: np.ndarray) -> np.ndarray:
        self._send(action)
        self.last_action = np.asarray(action, np.float32)
        return self.last_action
