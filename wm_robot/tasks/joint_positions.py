"""Rewards `track_joints` and `hold`: joints at given positions."""

from collections.abc import Sequence

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import Array, sqrt
from wm_robot.spec import RobotSpec
from wm_robot.tasks.channels import check_parameters, find_channels, find_joint, make_like
from wm_robot.tasks.reward import Reward

SMOOTHING = 1e-3
"""Error below which the root-mean-square error is smooth, in rad (m)."""


def make_track_joints_reward(
    spec: RobotSpec, *, joints: Sequence[str] = (), speed_cost: float = 0.0
) -> Reward:
    """Return the reward: minus the root-mean-square error of joint positions after the step, in rad (m for a slide).

    The goal has a position for each listed joint, in rad (m). A cost of joint speed is subtracted.

    Args:
        joints: Joints that are tracked, in the order of the goal; empty: all, in the order of the spec.
        speed_cost: Cost of the mean squared velocity of these joints, in rad / (rad/s)².

    Raises:
        SpecError: If the robot lacks a joint, or does not sense position and velocity.
    """
    listed = [find_joint(spec, joint, reward="track_joints", parameter="joints") for joint in joints]
    if len(set(listed)) != len(listed):
        raise SpecError(f"parameter 'joints' of reward 'track_joints' is {listed}; each must be listed once")
    check_parameters("track_joints", speed_cost=speed_cost)
    names = listed or list(spec.joint_names)
    return _make_position_reward(spec, names, speed_cost, goal_sizes=(len(names),))


def make_hold_reward(spec: RobotSpec, *, speed_cost: float = 0.01) -> Reward:
    """Return the reward for standing still: that of `track_joints` for all joints, at the goal or at home.

    A task with a goal gets a position for each joint, in rad (m). A task without one stays at home: at `safety.home`,
    and where that lists no position, at the position in the joint's range nearest to zero.

    Args:
        speed_cost: Cost of the mean squared joint velocity, in rad / (rad/s)².

    Raises:
        SpecError: If the robot does not sense position and velocity of its joints.
    """
    check_parameters("hold", speed_cost=speed_cost)
    names = list(spec.joint_names)
    home = find_home_positions(spec)
    return _make_position_reward(spec, names, speed_cost, goal_sizes=(0, len(names)), home=home)


def find_home_positions(spec: RobotSpec) -> list[float]:
    """Return the home position of each joint: that of `safety.home`, or the one in its range nearest to zero."""
    return [
        float(spec.safety.home.get(joint.name, min(max(0.0, joint.position[0]), joint.position[1])))
        for joint in spec.joints
    ]


def _make_position_reward(
    spec: RobotSpec,
    joints: Sequence[str],
    speed_cost: float,
    *,
    goal_sizes: tuple[int, ...],
    home: Sequence[float] = (),
) -> Reward:
    """Return the reward of joint positions.

    Args:
        home: Positions that are used for a goal without values.
    """
    count = len(joints)
    counted = find_channels(spec, [f"{j}/{i}" for i in ("position", "velocity") for j in joints])

    def compute_features(obs: Array) -> Array:
        return obs[..., counted]

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        position, velocity = after[..., :count], after[..., count:]
        wanted = goal if goal.shape[-1] else make_like(position, home)
        square = ((position - wanted) ** 2).mean(-1)
        return (velocity**2).mean(-1) * -speed_cost - sqrt(square + SMOOTHING**2)

    return Reward(compute_reward, compute_features, goal_sizes=goal_sizes, uses_obs=False)
