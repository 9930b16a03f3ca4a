"""Task error: how far a robot is from what its task asks for, with its unit and the sizes from which it counts."""

from dataclasses import dataclass, replace

import numpy as np

from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks.catalog import make_reward
from wm_robot.tasks.goal_types import JOINT_REWARDS, find_goal_joints
from wm_robot.tasks.reward import Reward, RewardError

REACH = "reach"
TILT_REWARDS = ("balance", "swingup", "upright")
ESTIMATE_SAMPLES = 4096
"""Random observations from which the largest value of a user's reward is estimated."""
OFF_TARGET_SHARE, FOLLOWING_SHARE, FULL_SHARE = 0.01, 0.15, 0.2
"""Shares of the mean range of the joints, for the sizes of their error."""
FOLLOWING_TOLERANCES = 5.0
"""Error of a user's task, in tolerances, above which a robot does not follow its target at all."""
LONGEST_RANGE = 2 * np.pi
"""Range that is assumed of a joint whose own is longer, in rad (m)."""


@dataclass(frozen=True, kw_only=True)
class ErrorScale:
    """Unit of a task's error, and the sizes from which it counts."""

    name: str
    """What it measures, for axes: `distance to target`."""
    title: str
    """The same as a title: `Distance from gripper to target`."""
    question: str
    """Heading of the figure."""
    unit: str
    """Unit in which it is shown; empty for a reward."""
    factor: float = 1.0
    """Factor to that unit."""
    decimals: int | None = None
    """Decimals in text; None: three significant digits."""
    min_off_target: float
    """Error that always counts as on target. Without it, the limit for a tiny error would be tiny."""
    max_following: float
    """Error above which a robot does not follow its target at all."""
    full: float
    """Error of a full bar."""
    robot_noun: str = "robot"
    """What the robot is called."""

    def convert(self, error: np.ndarray | float) -> np.ndarray | float:
        """Convert errors to the unit in which they are shown."""
        return self.factor * error

    def format(self, error: float, *, more_decimals: int = 0) -> str:
        """Return an error with its unit."""
        return f"{self.format_number(error, more_decimals=more_decimals)} {self.unit}".rstrip()

    def format_number(self, error: float, *, more_decimals: int = 0) -> str:
        """Return an error without its unit."""
        value = self.factor * error
        return f"{value:.3g}" if self.decimals is None else f"{value:.{self.decimals + more_decimals}f}"

    @property
    def label(self) -> str:
        """Label of an axis."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


GRIPPER_SCALE = ErrorScale(
    name="distance to target",
    title="Distance from gripper to target",
    question="How far each gripper was from its target",
    unit="mm",
    factor=1e3,
    decimals=0,
    min_off_target=0.01,
    max_following=0.06,
    full=0.1,
    robot_noun="arm",
)
"""Scale of a gripper's distance to its target, in m."""
VELOCITY_SCALE = ErrorScale(
    name="error of velocity",
    title="Difference between velocity and target",
    question="How far each robot's velocity was from its target",
    unit="m/s",
    min_off_target=0.05,
    max_following=0.5,
    full=1.0,
)
TILT_SCALE = ErrorScale(
    name="tilt",
    title="Tilt from upright",
    question="How far each robot was from upright, its target",
    unit="rad",
    min_off_target=0.05,
    max_following=0.5,
    full=1.0,
)


class TaskError:
    """Error of a task after each step.

    It is what the reward says, such as the distance to the goal for `reach`. For a reward that says nothing, it is
    what the reward is below its largest value.
    """

    def __init__(self, spec: RobotSpec, task: Task):
        """Raises:
        SpecError: If the robot cannot have the task.
        """
        self._reward, self._best = make_reward(spec, task), 0.0
        self.uses_gripper = task.reward == REACH
        """Whether `measure` uses the position of the gripper, where it is known."""
        error = self._reward.error
        if error is None:
            self._best, self.scale = _estimate_scale(spec, task, self._reward)
        else:
            self.scale = _choose_scale(spec, task, error)
        self.tolerance = self.scale.min_off_target if error is None else error.tolerance
        """Largest mean error of a robot that solves the task."""

    def measure(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        goal: np.ndarray,
        gripper: np.ndarray | None = None,
    ) -> np.ndarray:
        """Measure the error after steps, `…`, at least 0.

        Args:
            obs: `… O`.
            action: Applied action, `… A`.
            next_obs: `… O`.
            goal: `… G`, at the time of `next_obs`.
            gripper: True position of the gripper, `… 3`, in m; None: as the observation says.
        """
        if self.uses_gripper and gripper is not None:
            return np.asarray(np.linalg.norm(goal[..., :3] - gripper, axis=-1))
        if self._reward.error is not None:
            return np.asarray(self._reward.error.function(next_obs, goal))
        return np.asarray(np.maximum(self._best - self._reward(obs, action, next_obs, goal), 0.0))


def _choose_scale(spec: RobotSpec, task: Task, error: RewardError) -> ErrorScale:
    """Choose the scale of a reward that says what its error is."""
    if task.reward == REACH:
        hinges = {joint.name for joint in spec.joints if joint.kind == "hinge"}
        is_arm = any(link.joint in hinges for link in spec.chain)
        return GRIPPER_SCALE if is_arm else replace(GRIPPER_SCALE, robot_noun="robot")
    if task.reward in JOINT_REWARDS:
        joints = find_goal_joints(spec, task) if task.goal else spec.joint_names
        return _make_joint_scale(spec, joints, error.unit)
    if task.reward in TILT_REWARDS:
        return TILT_SCALE
    if task.reward == "track_velocity":
        return VELOCITY_SCALE
    return ErrorScale(
        name="error of the task",
        title="Error of the task",
        question="How far each robot was from what its task asks for",
        unit=error.unit,
        min_off_target=error.tolerance,
        max_following=FOLLOWING_TOLERANCES * error.tolerance,
        full=FOLLOWING_TOLERANCES * error.tolerance,
    )


def _make_joint_scale(spec: RobotSpec, joints: tuple[str, ...], unit: str) -> ErrorScale:
    listed = [joint for joint in spec.joints if joint.name in joints]
    mean = float(np.mean([min(joint.position[1] - joint.position[0], LONGEST_RANGE) for joint in listed]))
    return ErrorScale(
        name="error of the joints",
        title="Root-mean-square error of the joint positions",
        question="How far each robot's joints were from their target",
        unit=unit,
        min_off_target=OFF_TARGET_SHARE * mean,
        max_following=FOLLOWING_SHARE * mean,
        full=FULL_SHARE * mean,
    )


def _estimate_scale(spec: RobotSpec, task: Task, reward: Reward) -> tuple[float, ErrorScale]:
    """Estimate the largest value of a reward that does not say it, and the sizes of its deficit."""
    rng = np.random.default_rng(0)
    limits = {
        "position": [(max(j.position[0], -np.pi), min(j.position[1], np.pi)) for j in spec.joints],
        "velocity": [(-j.velocity, j.velocity) for j in spec.joints],
        "effort": [(-j.effort, j.effort) for j in spec.joints],
    }
    others = spec.layout.limits[len(spec.joints) * len(spec.interfaces) :]
    bounds = np.concatenate([*(limits[name] for name in spec.interfaces), np.stack([-others, others], 1)])
    obs = rng.uniform(bounds[:, 0], bounds[:, 1], (ESTIMATE_SAMPLES, len(bounds)))
    # Half of them at rest.
    velocities = [i for i, name in enumerate(spec.observation_names) if name.endswith("/velocity")]
    obs[::2, velocities] = 0.0
    obs = obs.astype(np.float32)
    action = np.zeros((ESTIMATE_SAMPLES, spec.action_dim), np.float32)
    found = reward(obs, action, obs, np.zeros((ESTIMATE_SAMPLES, task.goal), np.float32))
    best = float(np.max(found))
    usual = max(best - float(np.median(found)), 1e-6)
    return best, ErrorScale(
        name="reward below its best",
        title="Reward below its best",
        question="How far each robot's reward was below its best, its target",
        unit="",
        min_off_target=0.1 * usual,
        max_following=usual,
        full=usual,
    )
