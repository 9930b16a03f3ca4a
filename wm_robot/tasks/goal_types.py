"""Goal types: the ROS message in which the goals of a task arrive."""

from wm_robot.spec import Task

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
