"""Tasks: reward functions by name, pure functions of observation, action, next observation and goal."""

from wm_robot.math.kinematics import Array
from wm_robot.tasks.catalog import (
    EXPERIMENTAL_REWARDS,
    REWARDS,
    describe_experimental_task,
    find_reward_origin,
    is_reward_available,
    make_reward,
)
from wm_robot.tasks.channels import compute_gripper_position
from wm_robot.tasks.goal_types import select_goal_type
from wm_robot.tasks.reward import Reward, RewardError, RewardFactory, RewardFunction
from wm_robot.tasks.task_error import ErrorScale, TaskError

__all__ = [
    "EXPERIMENTAL_REWARDS",
    "REWARDS",
    "Array",
    "ErrorScale",
    "Reward",
    "RewardError",
    "RewardFactory",
    "RewardFunction",
    "TaskError",
    "compute_gripper_position",
    "describe_experimental_task",
    "find_reward_origin",
    "is_reward_available",
    "make_reward",
    "select_goal_type",
]
