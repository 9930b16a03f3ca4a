"""Reward `reach`: the gripper at a point."""

from wm_robot.math.kinematics import Array, concatenate, sqrt
from wm_robot.spec import RobotSpec
from wm_robot.tasks.channels import check_parameters, compute_gripper_position, find_channels
from wm_robot.tasks.reward import Reward, RewardError

TOLERANCE = 0.015
"""Largest distance of a gripper that has reached its goal, in m."""


def make_reach_reward(spec: RobotSpec, *, speed_cost: float = 0.0) -> Reward:
    """Return the reward: minus the distance from gripper to goal after the step, in m, minus a cost of joint speed.

    The goal is a point in the frame of the base, in m; of a pose, the position counts alone.

    Args:
        speed_cost: Cost of the mean squared joint velocity, in m / (rad/s)².

    Raises:
        SpecError: If the robot has no chain, or does not sense position and velocity of its joints.
    """
    check_parameters("reach", speed_cost=speed_cost)
    velocities = find_channels(spec, [f"{joint}/velocity" for joint in spec.joint_names])
    each = speed_cost / len(spec.joints)

    def compute_features(obs: Array) -> Array:
        return concatenate(compute_gripper_position(spec, obs), obs[..., velocities])

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        square = ((after[..., :3] - goal[..., :3]) ** 2).sum(-1)
        # The root is smooth at the goal, so that the last millimetres still have a gradient.
        return (after[..., 3:] ** 2).sum(-1) * -each - sqrt(square + 1e-6)

    def compute_distance(obs: Array, goal: Array) -> Array:
        return sqrt(((compute_gripper_position(spec, obs) - goal[..., :3]) ** 2).sum(-1))

    error = RewardError(function=compute_distance, unit="m", tolerance=TOLERANCE)
    return Reward(compute_reward, compute_features, goal_sizes=(3, 7), uses_obs=False, error=error)
