"""Motor emulator: a robot without a simulator that checks all motor values against the spec."""

from collections.abc import Callable

import numpy as np

from wm_robot.safety.braking import compute_braking_distance
from wm_robot.safety.gate import Gate
from wm_robot.safety.gated_robot import GatedRobot
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation

LAG = 0.5
"""Fraction of the way to its target that a joint moves in a period."""
ROUNDING = 2e-6
"""Rounding tolerance of positions in float32, in rad."""


class EmulatedMotors:
    """Emulated motors: joints that follow their targets, and a count of all unsafe targets.

    Each action advances them by a period. Nothing is rejected, as on a real bus.
    """

    def __init__(self, spec: RobotSpec, initial_action: np.ndarray):
        self.spec, self.time = spec, 0.0
        self.driven = self.unsafe = 0
        """Number of values that reached the motors, and of those that are not finite or outside a limit."""
        self.corrupt: Callable[[Observation], Observation] = lambda obs: obs
        """Change of a reading in transmission."""
        self.last_action = np.array(initial_action, np.float32)
        self.position = spec.home_position
        self.velocity = np.zeros(len(spec.joints))
        self._moved = np.zeros(spec.action_dim)
        self._joint = [spec.joint_names.index(actuator.joint) for actuator in spec.actuators]
        self._servo = np.array([actuator.is_servo for actuator in spec.actuators])
        given = [spec.safety.acceleration.get(name, np.inf) for name in spec.action_names]
        self._change = np.minimum(np.array(given) * spec.dt**2, 2.0 * spec.action_step)
        self.position[self._joint] = np.where(self._servo, self.last_action, self.position[self._joint])

    def read(self) -> Observation:
        effort = np.zeros(len(self.spec.joints))
        values = {"position": self.position, "velocity": self.velocity, "effort": effort}
        sensed = np.concatenate([values[name] for name in self.spec.interfaces]).astype(np.float32)
        return self.corrupt(Observation(stamp=self.time, values=sensed))

    def drive(self, action: np.ndarray) -> np.ndarray:
        """Count the unsafe values, and move the joints."""
        unsafe = self.find_unsafe(action)
        self.driven += action.size
        self.unsafe += int(unsafe.sum())
        told = np.where(unsafe, self.last_action, action).astype(np.float32)
        self._moved = told.astype(np.float64) - self.last_action
        self.last_action = told
        before = self.position.copy()
        way = np.where(self._servo, self.last_action - self.position[self._joint], 0.0)
        self.position[self._joint] += LAG * way
        self.velocity = (self.position - before) / self.spec.dt
        self.time += self.spec.dt
        return self.last_action.copy()

    def find_unsafe(self, action: np.ndarray) -> np.ndarray:
        """Return which values must not reach a motor, bool `A`.

        These are values that are not finite, out of range, too fast or impossible to brake.
        """
        spec, action = self.spec, action.astype(np.float64)
        low, high, step = (
            x.astype(np.float64) for x in (spec.action_low, spec.action_high, spec.action_step)
        )
        finite = np.isfinite(action)
        action = np.where(finite, action, 0.0)
        moved = action - self.last_action
        fine = finite & (action >= low) & (action <= high)
        fine &= np.abs(moved) <= step + ROUNDING
        fine &= np.abs(moved - self._moved) <= self._change + ROUNDING
        way = compute_braking_distance(np.abs(moved), self._change)
        fine &= way <= np.where(moved > 0, high - action, action - low) + ROUNDING
        return ~fine


class EmulatedRobot:
    """Robot of emulated motors behind the action gate."""

    def __init__(self, spec: RobotSpec, initial_action: np.ndarray | None = None):
        """Args:
        initial_action: Action in force, `A`; by default at home.
        """
        self.motors = EmulatedMotors(spec, spec.home_action if initial_action is None else initial_action)
        self._gated = GatedRobot(self.motors, clock=lambda: self.motors.time)

    @property
    def spec(self) -> RobotSpec:
        return self.motors.spec

    @property
    def gate(self) -> Gate:
        return self._gated.gate

    @property
    def last_action(self) -> np.ndarray:
        """Action in force, `A`."""
        return self.motors.last_action

    def read(self) -> Observation:
        """Return the current sensor readings."""
        return self._gated.read()

    def write(self, action: np.ndarray) -> np.ndarray:
        """Write an action; return what reached the motors."""
        return self._gated.write(action)
