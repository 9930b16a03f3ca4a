"""Moving goals: target positions for the gripper."""

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.motion import minimum_jerk
from wm_robot_sim.reachable_poses import comfortable, gripper_points

MOVE_S, REST_S = (0.8, 2.0), (0.3, 1.5)
JOINT_SPEED = 0.7
"""Largest mean speed of any joint in a move, in rad/s. A long move takes longer than `MOVE_SECONDS`."""
AHEAD = 16


class MovingTarget:
    """Reachable target that moves smoothly from place to place and rests at each.

    It is the gripper of a phantom that moves between reachable poses. So it never crosses unreachable
    places: a straight line from left to right would run through the base.
    A robot without a chain has an empty goal.
    """

    def __init__(self, spec: RobotSpec, *, seed: int | np.random.SeedSequence):
        self.spec = spec
        self._rng = np.random.default_rng(seed)
        self._poses = comfortable(spec, self._rng, 1)
        self._start = np.zeros(0)
        self._duration = np.zeros(0)
        self._end = 0.0

    def goal(self, step: int) -> np.ndarray:
        """Target position at a step, float32 `G`, in m."""
        return self._at(np.array([step]))[0]

    def path(self, steps: int) -> np.ndarray:
        """Target positions at steps 0 to `steps` − 1, float32 `T G`, in m."""
        return self._at(np.arange(steps))

    def _at(self, step: np.ndarray) -> np.ndarray:
        if not self.spec.chain:
            return np.zeros((len(step), 0), np.float32)
        return gripper_points(self.spec, self.phantom(step)).astype(np.float32)

    def phantom(self, step: np.ndarray) -> np.ndarray:
        """Joint poses whose gripper is the target at some steps, `T J`."""
        times = step * self.spec.dt
        while self._end <= times.max():
            self._extend()
        move = np.maximum(np.searchsorted(self._start, times, side="right") - 1, 0)
        done = minimum_jerk((times - self._start[move]) / self._duration[move])[:, None]
        return self._poses[move] + done * (self._poses[move + 1] - self._poses[move])

    def _extend(self) -> None:
        poses = np.concatenate([self._poses, comfortable(self.spec, self._rng, AHEAD)])
        far = np.abs(np.diff(poses[-AHEAD - 1 :], axis=0)).max(1)
        duration = np.maximum(self._rng.uniform(*MOVE_S, AHEAD), far / JOINT_SPEED)
        ends = self._end + np.cumsum(duration + self._rng.uniform(*REST_S, AHEAD))
        self._start = np.concatenate([self._start, ends - duration])
        self._duration = np.concatenate([self._duration, duration])
        self._poses, self._end = poses, float(ends[-1])
