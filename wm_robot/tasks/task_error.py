"""Task error: how far a robot is from what its task asks for, with its unit and the sizes from which it counts."""

from dataclasses import dataclass, replace

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks.catalog import make_reward
from wm_robot.tasks.channels import find_channels
from wm_robot.tasks.goal_types import JOINT_REWARDS, find_goal_joints
from wm_robot.tasks.joint_positions import find_home_positions
from wm_robot.tasks.reward import Reward

REACH = "reach"
BEST_REWARDS = {"balance": 1.0, "swingup": 1.0, "upright": 1.0, "track_velocity": 0.0}
"""Largest value of the built-in rewards that are not the error themselves."""
ESTIMATE_SAMPLES = 4096
"""Random observations from which the largest value of a user's reward is estimated."""
OFF_TARGET_SHARE, FOLLOWING_SHARE, FULL_SHARE = 0.01, 0.15, 0.2
"""Shares of the mean range of the joints, for the sizes of their error."""
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
REWARD_SCALE = ErrorScale(
    name="reward below its best",
    title="Reward below its best",
    question="How far each robot's reward was below its best, its target",
    unit="",
    min_off_target=0.1,
    max_following=0.5,
    full=1.0,
)


class TaskError:
    """Error of a task after each step.

    It is the distance of the true gripper to its goal for `reach`, the root-mean-square error of the sensed joint
    positions for `track_joints` and `hold`, and for every other reward what it is below its largest value.
    """

    def __init__(self, spec: RobotSpec, task: Task):
        """Raises:
        SpecError: If the robot cannot have the task.
        """
        reward = make_reward(spec, task)
        self._reward, self._best = reward, BEST_REWARDS.get(task.reward)
        self.uses_gripper = task.reward == REACH and bool(spec.chain)
        """Whether `measure` needs the position of the gripper."""
        self._positions: list[int] | slice | None = None
        self._home = np.zeros(0)
        if self.uses_gripper:
            hinges = {joint.name for joint in spec.joints if joint.kind == "hinge"}
            is_arm = any(link.joint in hinges for link in spec.chain)
            self.scale = GRIPPER_SCALE if is_arm else replace(GRIPPER_SCALE, robot_noun="robot")
        elif task.reward in JOINT_REWARDS:
            joints = find_goal_joints(spec, task) if task.goal else spec.joint_names
            self._positions = find_channels(spec, [f"{joint}/position" for joint in joints])
            self._home = np.array(find_home_positions(spec))
            self.scale = _make_joint_scale(spec, joints)
        elif self._best is not None:
            self.scale = VELOCITY_SCALE if task.reward == "track_velocity" else REWARD_SCALE
        else:
            self._best, self.scale = _estimate_scale(spec, task, reward)

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
            gripper: True position of the gripper, `… 3`, in m.

        Raises:
            SpecError: If there is no gripper position, and the error is its distance.
        """
        if self.uses_gripper:
            if gripper is None:
                raise SpecError("the error of a reach task needs the position of the gripper")
            return np.asarray(np.linalg.norm(goal[..., :3] - gripper, axis=-1))
        if self._positions is not None:
            wanted = goal if goal.shape[-1] else self._home
            return np.asarray(np.sqrt(np.square(next_obs[..., self._positions] - wanted).mean(-1)))
        assert self._best is not None
        return np.asarray(np.maximum(self._best - self._reward(obs, action, next_obs, goal), 0.0))


def _make_joint_scale(spec: RobotSpec, joints: tuple[str, ...]) -> ErrorScale:
    listed = [joint for joint in spec.joints if joint.name in joints]
    kinds = {joint.kind for joint in listed}
    unit = {"hinge": "rad", "slide": "m"}[kinds.pop()] if len(kinds) == 1 else "rad or m"
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
    }
    bounds = np.concatenate([limits[name] for name in spec.interfaces])
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
