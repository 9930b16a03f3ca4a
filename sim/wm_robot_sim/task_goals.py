"""Goals of a task in simulation: reachable ones that move, for tasks whose goals are points or joint positions."""

import numpy as np

from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks.goal_types import find_goal_joints, select_goal_type
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.reachable_poses import compute_gripper_positions

IDENTITY = (0.0, 0.0, 0.0, 1.0)
"""Orientation of a pose, as a quaternion x, y, z, w."""


class TaskGoals:
    """Goals of a task: those of a `MovingTarget` where they are a point, a pose or joint positions.

    All other goals are zero, since nothing says which of them a robot can reach.
    """

    def __init__(self, spec: RobotSpec, task: Task, *, seed: int | np.random.SeedSequence):
        """Raises:
        SpecError: If the goals are joint positions, and their number is not that of the joints.
        """
        self._task, self._goal_type = task, select_goal_type(task)
        self._target = MovingTarget(spec, seed=seed)
        self._is_moving = self._goal_type == "JointState" or (
            self._goal_type in ("PointStamped", "PoseStamped") and bool(spec.chain)
        )
        self._joints = (
            [spec.joint_names.index(joint) for joint in find_goal_joints(spec, task)]
            if task.goal and self._goal_type == "JointState"
            else []
        )

    def compute_goal(self, step: int) -> np.ndarray:
        """Goal at a step, float32 `G`."""
        return self._compute_goals(np.array([step]))[0]

    def compute_path(self, steps: int) -> np.ndarray:
        """Goals at steps 0 to `steps` − 1, float32 `T G`."""
        return self._compute_goals(np.arange(steps))

    def _compute_goals(self, step: np.ndarray) -> np.ndarray:
        if not (self._task.goal and self._is_moving):
            return np.zeros((len(step), self._task.goal), np.float32)
        poses = self._target.compute_phantom_poses(step)
        if self._goal_type == "JointState":
            return poses[:, self._joints].astype(np.float32)
        points = compute_gripper_positions(self._target.spec, poses).astype(np.float32)
        if self._goal_type == "PointStamped":
            return points
        return np.concatenate([points, np.tile(np.array(IDENTITY, np.float32), (len(points), 1))], 1)
