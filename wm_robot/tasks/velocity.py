"""Reward `track_velocity`: a body that moves with a given velocity."""

from collections.abc import Mapping

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import Array, sqrt
from wm_robot.spec import BASE, RobotSpec
from wm_robot.tasks.channels import check_parameters, find_channels, find_joint
from wm_robot.tasks.reward import Reward, RewardError

TWIST = ("linear_x", "linear_y", "linear_z", "angular_x", "angular_y", "angular_z")
"""Parts of the goal of `track_velocity`, those of a ROS twist: in m/s and rad/s."""
SMOOTHING = 1e-3
"""Error below which the reward is smooth, in m/s."""
TOLERANCE = 0.2
"""Largest error of a body that moves as it should, in m/s."""


def make_track_velocity_reward(
    spec: RobotSpec, *, joints: Mapping[str, str] | None = None, turn_radius: float = 1.0
) -> Reward:
    """Return the reward: minus the distance between the velocity of a body and the goal, after the step, in m/s.

    The goal is a twist: three linear velocities in m/s and three angular ones in rad/s. Parts without a joint do not
    count. Experimental: a gait needs a longer plan.

    Args:
        joints: Part of the twist, such as `linear_x`, → joint whose velocity it is, such as `rootx`; `base`: the
            velocity of a floating base, in its own frame.
        turn_radius: Radius at which an angular velocity counts as a linear one, in m.

    Raises:
        SpecError: If no part is named, a name is unknown, or the robot does not sense a velocity.
    """
    joints = {} if joints is None else joints
    if not isinstance(joints, Mapping) or not joints or set(joints) - set(TWIST):
        raise SpecError(
            f"parameter 'joints' of reward 'track_velocity' is {joints!r}; it must map some of {list(TWIST)} to "
            f"joints of robot '{spec.name}': {list(spec.joint_names)}"
        )
    check_parameters("track_velocity", above=0, turn_radius=turn_radius)
    parts = [part for part in TWIST if part in joints]
    counted = find_channels(spec, [_find_velocity(spec, part, joints[part]) for part in parts])
    scales = [turn_radius if part.startswith("angular") else 1.0 for part in parts]
    indices = [TWIST.index(part) for part in parts]

    def compute_features(obs: Array) -> Array:
        return obs[..., counted]

    def compute_square(after: Array, goal: Array) -> Array:
        errors = (
            scale * (after[..., i] - goal[..., k])
            for i, (k, scale) in enumerate(zip(indices, scales, strict=True))
        )
        return sum(error**2 for error in errors)

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        return -sqrt(compute_square(after, goal) + SMOOTHING**2)

    error = RewardError(
        function=lambda obs, goal: sqrt(compute_square(compute_features(obs), goal)),
        unit="m/s",
        tolerance=TOLERANCE,
    )
    return Reward(compute_reward, compute_features, goal_sizes=(len(TWIST),), uses_obs=False, error=error)


def _find_velocity(spec: RobotSpec, part: str, joint: str) -> str:
    """Return the channel of a part of the twist."""
    if spec.base and joint == BASE:
        kind, _, axis = part.partition("_")
        return f"{BASE}/{kind}_velocity_{axis}"
    find_joint(spec, joint, reward="track_velocity", parameter=f"joints.{part}")
    return f"{joint}/velocity"
