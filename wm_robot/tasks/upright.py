"""Rewards `swingup`, `balance` and `upright`: a pole or a body upright."""

import math

import numpy as np

from wm_robot.math.kinematics import Array, concatenate, cosine, sine
from wm_robot.spec import BASE, FloatingBase, RobotSpec
from wm_robot.tasks.channels import (
    check_parameters,
    check_parameters_finite,
    find_channels,
    find_joint,
    find_pole,
)
from wm_robot.tasks.reward import Reward, RewardError

TOLERANCE = math.radians(12)
"""Largest tilt of what is upright, in rad; a cart-pole counts as fallen beyond it in Barto et al. (1983)."""


def make_swingup_reward(spec: RobotSpec, *, rail: float = 1.0) -> Reward:
    """Return the reward of a cart-pole: 1 for the pole upright, at rest, in the middle of the rail; else less.

    The first joint is the cart, the second the pole, whose angle is 0 upright. The task has no goal.

    Args:
        rail: Distance from the middle at which the reward is half, in m.

    Raises:
        SpecError: If the robot has other than two joints, or does not sense their positions and velocities.
    """
    check_parameters("swingup", above=0, rail=rail)
    cart, pole = find_pole(spec, "", "", reward="swingup")
    counted = find_channels(spec, [f"{cart}/position", f"{pole}/position", f"{pole}/velocity"])

    def compute_features(obs: Array) -> Array:
        return obs[..., counted]

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        slide, hinge, spin = (after[..., i] for i in range(3))
        upright = (1 + cosine(hinge)) / 2
        return upright / (1 + (slide / rail) ** 2) / (1 + (spin / 10) ** 2)

    return Reward(
        compute_reward,
        compute_features,
        goal_sizes=(0,),
        uses_obs=False,
        error=_measure_tilt(spec, pole),
    )


def make_balance_reward(
    spec: RobotSpec,
    *,
    pole: str = "",
    cart: str = "",
    fall_time: float = 0.26,
    lean: float = 0.1,
    return_time: float = 1.0,
    width: float = 0.1,
) -> Reward:
    r"""Return the reward of a pole that starts near upright: 1 if it stays there, at most.

    The reward is :math:`\cos θ - (\sin θ + τ \dot θ + k (x + T \dot x))^2 / w^2` after the step. The sum in brackets
    predicts how far the pole falls without an action, so a plan of a fifth of a second only needs to keep it at zero.
    Its last part leans the pole towards the middle of the rail, which brings the cart back. The angle θ is 0 upright.
    The task has no goal.

    Args:
        pole: Joint of the pole; empty: the second joint of a robot with two.
        cart: Joint of the cart, which is at 0 in the middle; empty: the first joint of a robot with two, or none.
        fall_time: τ, the time in which the tilt of a falling pole grows by a factor of e, in s; the default is that
            of a rod of 1 m.
        lean: k, the lean for each m that the cart is off the middle, in rad/m; negative where a positive angle tilts
            the pole to the side of negative cart positions.
        return_time: T, the time ahead at which the cart's position counts, in s.
        width: w, the sum in brackets that costs 1, in rad. A wide one is outweighed by the planner's control cost.

    Raises:
        SpecError: If the robot lacks a joint, or does not sense its position and velocity.

    Source: the tilt that counts is the capture point of Pratt et al. (2006), Humanoids, for a pole.
    """
    check_parameters("balance", above=0, fall_time=fall_time, width=width)
    check_parameters("balance", return_time=return_time)
    check_parameters_finite("balance", lean=lean)
    cart, pole = find_pole(spec, pole, cart, reward="balance")
    moved = [cart, pole] if cart else [pole]
    counted = find_channels(spec, [f"{j}/{i}" for i in ("position", "velocity") for j in moved])
    count = len(moved)

    def compute_features(obs: Array) -> Array:
        return obs[..., counted]

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        hinge, spin = after[..., count - 1], after[..., -1]
        tilt = sine(hinge) + fall_time * spin
        if count == 2:
            tilt = tilt + lean * (after[..., 0] + return_time * after[..., 2])
        return cosine(hinge) - (tilt / width) ** 2

    return Reward(
        compute_reward,
        compute_features,
        goal_sizes=(0,),
        uses_obs=False,
        error=_measure_tilt(spec, pole),
    )


def make_upright_reward(
    spec: RobotSpec,
    *,
    joint: str = "",
    height_joint: str = "",
    height: float = 0.0,
    speed_cost: float = 0.0,
) -> Reward:
    r"""Return the reward of an upright body: :math:`\cos θ` after the step, minus costs of height and speed.

    The angle θ of the body's joint is 0 upright; that of a floating base is its tilt from home. The task has no goal.
    Experimental: a body that must gather momentum to rise needs a longer plan.

    Args:
        joint: Joint whose angle is the tilt of the body, such as `rooty`; `base` for a floating base.
        height_joint: Slide that is the height of the body, such as `rootz`, or `base`; empty: height does not count.
        height: Position of that joint for a standing body, in m. The squared difference is subtracted, in m².
        speed_cost: Cost of the squared speed of the tilt, in (s/rad)².

    Raises:
        SpecError: If a joint is not named or does not exist, or the robot does not sense it.
    """
    check_parameters("upright", speed_cost=speed_cost)
    check_parameters_finite("upright", height=height)
    if spec.base and joint == BASE:
        return _make_base_upright_reward(spec, spec.base, height_joint, height, speed_cost)
    find_joint(spec, joint, reward="upright", parameter="joint")
    channels = [f"{joint}/position", f"{joint}/velocity"]
    if height_joint:
        channels.append(_find_height(spec, height_joint))
    counted = find_channels(spec, channels)

    def compute_features(obs: Array) -> Array:
        return obs[..., counted]

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        reward = cosine(after[..., 0]) - speed_cost * after[..., 1] ** 2
        return reward - (after[..., 2] - height) ** 2 if height_joint else reward

    return Reward(
        compute_reward,
        compute_features,
        goal_sizes=(0,),
        uses_obs=False,
        error=_measure_tilt(spec, joint),
    )


def _make_base_upright_reward(
    spec: RobotSpec, base: FloatingBase, height_joint: str, height: float, speed_cost: float
) -> Reward:
    """Return the reward of an upright floating base; see `make_upright_reward`."""
    layout = spec.layout
    rotation, spin = layout.find_channels("rotation"), layout.find_channels("angular_velocity")
    place = find_channels(spec, [_find_height(spec, height_joint)]) if height_joint else slice(0)
    # The vertical in the frame of the base at home.
    up = base.home_rotation[2].tolist()

    def compute_features(obs: Array) -> Array:
        columns = obs[..., rotation]
        x, y = columns[..., :3], columns[..., 3:]
        # How far each axis of the base points up; of the third, the vertical part of the cross product.
        third = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
        upright = (up[0] * x[..., 2] + up[1] * y[..., 2] + up[2] * third)[..., None]
        return concatenate(upright, obs[..., spin], obs[..., place])

    def compute_reward(before: Array, action: Array, after: Array, goal: Array) -> Array:
        reward = after[..., 0] - speed_cost * (after[..., 1:4] ** 2).sum(-1)
        return reward - (after[..., 4] - height) ** 2 if height_joint else reward

    def compute_tilt(obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.arccos(np.clip(compute_features(obs)[..., 0], -1, 1))

    error = RewardError(function=compute_tilt, unit="rad", tolerance=TOLERANCE)
    return Reward(compute_reward, compute_features, goal_sizes=(0,), uses_obs=False, error=error)


def _find_height(spec: RobotSpec, height_joint: str) -> str:
    """Return the channel of the height of a body."""
    if spec.base and height_joint == BASE:
        return f"{BASE}/height"
    find_joint(spec, height_joint, reward="upright", parameter="height_joint")
    return f"{height_joint}/position"


def _measure_tilt(spec: RobotSpec, joint: str) -> RewardError:
    """Return the tilt of a joint that is 0 upright, in rad: between 0 and π, however often it has turned."""
    angle = spec.observation_names.index(f"{joint}/position")

    def compute_tilt(obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.abs(np.arctan2(np.sin(obs[..., angle]), np.cos(obs[..., angle])))

    return RewardError(function=compute_tilt, unit="rad", tolerance=TOLERANCE)
