"""Moving goals: target positions for the gripper."""

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.motion import minimum_jerk
from wm_robot_sim.reachable_poses import compute_gripper_positions, sample_reachable_poses

MOVE_SECONDS, REST_SECONDS = (0.8, 2.0), (0.3, 1.5)
MAX_MEAN_JOINT_SPEED = 0.7
"""Largest mean speed of any joint in a move, in rad/s. A long move takes longer than `MOVE_SECONDS`."""
MOVES_PER_EXTENSION = 16


class MovingTarget:
    """Reachable target that moves smoothly from place to place and rests at each.

    It is the gripper of a phantom that moves between reachable poses. So it never crosses unreachable
    places: a straight line from left to right would run through the base.
    A robot without a chain has an empty goal.
    """

    def __init__(self, spec: RobotSpec, *, seed: int | np.random.SeedSequence):
        self.spec = spec
        self._rng = np.random.default_rng(seed)
        self._poses = sample_reachable_poses(spec, self._rng, 1)
        self._start = np.zeros(0)
        self._duration = np.zeros(0)
        self._end = 0.0

    def compute_goal(self, step: int) -> np.ndarray:
        """Target position at a step, float32 `G`, in m."""
        return self._compute_goals(np.array([step]))[0]

    def compute_path(self, steps: int) -> np.ndarray:
        """Target positions at steps 0 to `steps` − 1, float32 `T G`, in m."""
        return self._compute_goals(np.arange(steps))

    def _compute_goals(self, step: np.ndarray) -> np.ndarray:
        if not self.spec.chain:
            return np.zeros((len(step), 0), np.float32)
        return compute_gripper_positions(self.spec, self.compute_phantom_poses(step)).astype(np.float32)

    def compute_phantom_poses(self, step: np.ndarray) -> np.ndarray:
        """Joint poses whose gripper is the target at some steps, `T J`."""
        times = step * self.spec.dt
        while self._end <= times.max():
            self._append_moves()
        move = np.maximum(np.searchsorted(self._start, times, side="right") - 1, 0)
        done = minimum_jerk((times - self._start[move]) / self._duration[move])[:, None]
        return self._poses[move] + done * (self._poses[move + 1] - self._poses[move])

    def _append_moves(self) -> None:
        poses = np.concatenate(
            [self._poses, sample_reachable_poses(self.spec, self._rng, MOVES_PER_EXTENSION)]
        )
        far = np.abs(np.diff(poses[-MOVES_PER_EXTENSION - 1 :], axis=0)).max(1)
        duration = np.maximum(
            self._rng.uniform(*MOVE_SECONDS, MOVES_PER_EXTENSION), far / MAX_MEAN_JOINT_SPEED
        )
        ends = self._end + np.cumsum(duration + self._rng.uniform(*REST_SECONDS, MOVES_PER_EXTENSION))
        self._start = np.concatenate([self._start, ends - duration])
        self._duration = np.concatenate([self._duration, duration])
        self._poses, self._end = poses, float(ends[-1])
