"""Fallback controller: moves home on a minimum-jerk path and holds there. It reads no sensors.

Source of the path: Flash and Hogan (1985), "The coordination of arm movements".
"""

import math

import numpy as np

from wm_robot.safety.limits import Limits
from wm_robot.spec import RobotSpec

PEAK_SPEED, PEAK_ACCELERATION = 1.875, 10 / math.sqrt(3)
"""Peak speed and acceleration of a minimum-jerk path of length 1 in time 1."""
SHARE = 0.5
"""Share of the limits of joint and actuator, so that the gate has nothing to limit."""
RAMP = 0.25
"""Time to full speed where no acceleration is given, in s."""


class Baseline:
    """Fallback controller: servos move home or hold, and motors are released."""

    def __init__(self, spec: RobotSpec, hold: np.ndarray):
        """Args:
        hold: Action in force at the start, `A`.
        """
        limits = Limits.of(spec)
        rest = [spec.safety.home.get(actuator.joint, 0.0) for actuator in spec.actuators]
        self.home = np.where(limits.servo, np.clip(rest, limits.low, limits.high), 0.0).astype(np.float32)
        """Action at rest, `A`."""
        self._servo = limits.servo
        self._speed = SHARE * np.minimum(limits.step, limits.velocity * spec.dt)
        self._change = SHARE * np.minimum(limits.change, self._speed * spec.dt / RAMP)
        self.stay(hold)

    @property
    def homed(self) -> bool:
        """Whether the path home is complete."""
        return self._step >= self._steps

    def stay(self, hold: np.ndarray) -> None:
        """Hold the targets of `hold` from now on."""
        self._from = self._to = np.where(self._servo, hold, 0.0)
        self._step = self._steps = 0

    def go_home(self, hold: np.ndarray) -> None:
        """Start the path home from the targets of `hold`.

        All servos move at once, and no faster than the slowest servo can."""
        self._from, self._to = np.where(self._servo, hold, 0.0), self.home.astype(np.float64)
        way = np.abs(self._to - self._from)
        periods = np.maximum(PEAK_SPEED * way / self._speed, np.sqrt(PEAK_ACCELERATION * way / self._change))
        self._step, self._steps = 0, math.ceil(periods.max())

    def act(self) -> np.ndarray:
        """Return the next action, `A`."""
        self._step = min(self._step + 1, self._steps)
        part = self._step / self._steps if self._steps else 1.0
        smooth = part**3 * (10 - 15 * part + 6 * part**2)
        action: np.ndarray = (self._from + smooth * (self._to - self._from)).astype(np.float32)
        return action
