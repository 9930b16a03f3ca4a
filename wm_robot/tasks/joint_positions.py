"""Rewards `track_joints` and `hold`: joints at given positions."""

from collections.abc import Sequence

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import Array, sqrt
from wm_robot.math.rotations import subtract_angles
from wm_robot.spec import RobotSpec
from wm_robot.tasks.channels import check_parameters, find_channels, find_joint, list_periods, make_like
from wm_robot.tasks.reward import Reward, RewardError

SMOOTHING = 1e-3
"""Error below which the root-mean-square error is smooth, in rad (m)."""
TRACKING_TOLERANCE, HOLDING_TOLERANCE = 0.1, 0.05
"""Largest root-mean-square error of joints that follow their goals, and of joints that stand still, in rad (m)."""


def make_track_joints_reward(
    spec: RobotSpec, *, joints: Sequence[str] = (), speed_cost: float = 0.0
) -> Reward:
    """Return the reward: minus the root-mean-square error of joint positions after the step, in rad (m for a slide).

    The goal has a position for each listed joint, in rad (m). The error of a joint that wraps is the shorter way. A
    cost of joint speed is subtracted.

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
    return _make_position_reward(
        spec, names, speed_cost, goal_sizes=(len(names),), tolerance=TRACKING_TOLERANCE
    )


def make_hold_reward(spec: RobotSpec, *, speed_cost: float = 0.01) -> Reward:
    """Return the reward for standing still: that of `track_joints` for all joints, at the goal or at home.

    A task with a goal gets a position for each joint, in rad (m). A task without one stays at home: at
    `RobotSpec.home_position`.

    Args:
        speed_cost: Cost of the mean squared joint velocity, in rad / (rad/s)².

    Raises:
        SpecError: If the robot does not sense position and velocity of its joints.
    """
    check_parameters("hold", speed_cost=speed_cost)
    names = list(spec.joint_names)
    return _make_position_reward(
        spec,
        names,
        speed_cost,
        goal_sizes=(0, len(names)),
        tolerance=HOLDING_TOLERANCE,
        home=spec.home_position.tolist(),
    )


def _make_position_reward(
    spec: RobotSpec,
    joints: Sequence[str],
    speed_cost: float,
    *,
    goal_sizes: tuple[int, ...],
    tolerance: float,
    home: Sequence[float] = (),
) -> Reward:
    """Return the reward of joint positions.

    Args:
        tolerance: Largest error of a solved task.
        home: Positions that are used for a goal without values.
    """
    count = len(joints)
    periods = list_periods(spec, joints)
    counted = find_channels(spec, [f"{j}/{i}" for i in ("position", "velocity") for j in joints])

    def compute_features(obs: Array) -> Array:
        return obs[..., counted]

    def compute_square(position: Array, goal: Array) -> Array:
        wanted = goal if goal.shape[-1] else make_like(position, home)
        if any(periods):
            error = subtract_angles(position, wanted, make_like(position, periods))
        else:
            error = position - wanted
        return (error**2).mean(-1)

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        position, velocity = after[..., :count], after[..., count:]
        square = compute_square(position, goal)
        return (velocity**2).mean(-1) * -speed_cost - sqrt(square + SMOOTHING**2)

    kinds = {joint.kind for joint in spec.joints if joint.name in joints}
    error = RewardError(
        function=lambda obs, goal: sqrt(compute_square(compute_features(obs)[..., :count], goal)),
        unit={"hinge": "rad", "slide": "m"}[kinds.pop()] if len(kinds) == 1 else "rad (m)",
        tolerance=tolerance,
    )
    return Reward(compute_reward, compute_features, goal_sizes=goal_sizes, uses_obs=False, error=error)
