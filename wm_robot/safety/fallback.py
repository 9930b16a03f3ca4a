"""Fallback controller: moves home on a minimum-jerk path and holds there. It reads no sensors.

Source of the path: Flash and Hogan (1985), "The coordination of arm movements".
"""

import math

import numpy as np

from wm_robot.safety.limits import Limits
from wm_robot.spec import RobotSpec

PEAK_SPEED, PEAK_ACCELERATION = 1.875, 10 / math.sqrt(3)
"""Peak speed and acceleration of a minimum-jerk path of length 1 in time 1."""
LIMIT_SHARE = 0.5
"""Share of the limits of joint and actuator, so that the gate has nothing to limit."""
RAMP_TIME = 0.25
"""Time to full speed where no acceleration is given, in s."""


class FallbackController:
    """Fallback controller: servos move home or hold, and motors are released."""

    def __init__(self, spec: RobotSpec, initial_action: np.ndarray):
        """Args:
        initial_action: Action in force at the start, `A`.
        """
        limits = Limits.from_spec(spec)
        self.home = np.clip(spec.home_action, limits.low, limits.high).astype(np.float32)
        """Action at rest, `A`."""
        self._released = np.clip(0.0, limits.low, limits.high)
        self._is_servo = limits.is_servo
        self._max_step = LIMIT_SHARE * np.minimum(limits.max_step, limits.max_velocity * spec.dt)
        self._max_step_change = LIMIT_SHARE * np.minimum(
            limits.step_change, self._max_step * spec.dt / RAMP_TIME
        )
        self.hold_targets(initial_action)

    @property
    def is_home(self) -> bool:
        """Whether the path home is complete."""
        return self._step >= self._num_steps

    def hold_targets(self, last_action: np.ndarray) -> None:
        """Hold the targets of `hold` from now on."""
        self._start_targets = self._end_targets = np.where(self._is_servo, last_action, self._released)
        self._step = self._num_steps = 0

    def go_home(self, last_action: np.ndarray) -> None:
        """Start the path home from the targets of `hold`.

        All servos move at once, and no faster than the slowest servo can."""
        self._start_targets, self._end_targets = (
            np.where(self._is_servo, last_action, self._released),
            self.home.astype(np.float64),
        )
        way = np.abs(self._end_targets - self._start_targets)
        periods = np.maximum(
            PEAK_SPEED * way / self._max_step, np.sqrt(PEAK_ACCELERATION * way / self._max_step_change)
        )
        self._step, self._num_steps = 0, math.ceil(periods.max())

    def act(self) -> np.ndarray:
        """Return the next action, `A`."""
        self._step = min(self._step + 1, self._num_steps)
        part = self._step / self._num_steps if self._num_steps else 1.0
        smooth = part**3 * (10 - 15 * part + 6 * part**2)
        action: np.ndarray = (
            self._start_targets + smooth * (self._end_targets - self._start_targets)
        ).astype(np.float32)
        return action
