"""Goal types: the ROS message in which the goals of a task arrive, and what its numbers are."""

from wm_robot.errors import SpecError
from wm_robot.spec import GOAL_TYPES, RobotSpec, Task
from wm_robot.tasks.channels import list_periods

DEFAULT_GOAL_TYPES = {
    "reach": {3: "PointStamped", 7: "PoseStamped"},
    "track_velocity": {6: "TwistStamped"},
}
"""Reward → goal type for each number of goal values."""
JOINT_REWARDS = ("track_joints", "hold")
"""Rewards whose goal is a position for each joint."""


def select_goal_type(task: Task) -> str:
    """Select the type of the message that carries a task's goals: the declared one, or that of its reward."""
    if task.goal_type:
        return task.goal_type
    if task.reward in JOINT_REWARDS:
        return "JointState"
    return DEFAULT_GOAL_TYPES.get(task.reward, {}).get(task.goal, "Float64MultiArray")


def find_goal_joints(spec: RobotSpec, task: Task) -> tuple[str, ...]:
    """Return the joints whose positions are the goal: those of the task's parameter `joints`, or all.

    Raises:
        SpecError: If a joint is unknown, or their number is not that of the goal.
    """
    listed = task.parameters.get("joints") or spec.joint_names
    names = tuple(listed) if isinstance(listed, list | tuple) else spec.joint_names
    unknown = sorted(set(map(str, names)) - set(spec.joint_names))
    if unknown or len(names) != task.goal:
        raise SpecError(
            f"a goal of {task.goal} values arrives as a JointState, and its joints are {list(names)}; it must have "
            f"one value for each, of {list(spec.joint_names)}. Correct goal, goal_type or parameter 'joints'"
        )
    return names


def list_goal_periods(spec: RobotSpec, task: Task) -> list[float]:
    """List 2π for each goal value that is the position of a joint that wraps; empty if none is."""
    if select_goal_type(task) != "JointState" or not task.goal:
        return []
    periods = list_periods(spec, find_goal_joints(spec, task))
    return periods if any(periods) else []


def check_goal_type(spec: RobotSpec, task: Task) -> str:
    """Return the goal type of a task, after a check that it carries the goal.

    Raises:
        SpecError: If it does not.
    """
    goal_type = select_goal_type(task)
    size = GOAL_TYPES[goal_type]
    if size not in (None, task.goal):
        raise SpecError(f"a {goal_type} carries {size} goal values; the task has goal: {task.goal}")
    if goal_type == "JointState":
        find_goal_joints(spec, task)
    return goal_type
