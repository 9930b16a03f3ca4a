"""Channels of an observation that rewards use, found by name."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import Array, compute_tip_position
from wm_robot.math.rotations import TURN
from wm_robot.spec import RobotSpec


def compute_gripper_position(spec: RobotSpec, obs: Array) -> Array:
    """Compute the gripper position from the joint angles of an observation, in m, `… 3`.

    Raises:
        SpecError: If the spec has no kinematic chain.
    """
    if not spec.chain:
        raise SpecError(f"robot '{spec.name}' has no chain in its spec; a gripper position needs one")
    positions = obs[..., find_channels(spec, [f"{link.joint}/position" for link in spec.chain])]
    return compute_tip_position(positions, spec.chain, spec.tip)


def find_channels(spec: RobotSpec, channels: Sequence[str]) -> slice | list[int]:
    """Find the indices of channels in an observation.

    Adjacent channels give a slice, because an index is three nodes of an ONNX model.

    Raises:
        SpecError: If the robot does not sense a channel.
    """
    for channel in channels:
        if channel not in spec.observation_names:
            raise SpecError(
                f"robot '{spec.name}' does not sense '{channel}', which its task needs; interfaces are "
                f"{spec.interfaces}"
            )
    places = [spec.observation_names.index(channel) for channel in channels]
    whole = range(places[0], places[-1] + 1)
    return slice(whole.start, whole.stop) if places == list(whole) else places


def make_like(x: Array, values: Sequence[float]) -> Array:
    """Return numbers as an array of the same library and type as another one."""
    return np.asarray(values, x.dtype) if isinstance(x, np.ndarray) else x.new_tensor(list(values))


def find_joint(spec: RobotSpec, joint: str, *, reward: str, parameter: str) -> str:
    """Return a joint that a parameter of a reward names.

    Raises:
        SpecError: If the robot has no such joint.
    """
    if joint not in spec.joint_names:
        raise SpecError(
            f"parameter '{parameter}' of reward '{reward}' is {joint!r}; it must be a joint of robot "
            f"'{spec.name}': {list(spec.joint_names)}"
        )
    return joint


def list_periods(spec: RobotSpec, joints: Sequence[str]) -> list[float]:
    """List 2π for each joint that wraps, and 0 for each other one; see `subtract_angles`."""
    wraps = {joint.name: joint.wraps for joint in spec.joints}
    return [TURN if wraps[name] else 0.0 for name in joints]


def find_pole(spec: RobotSpec, pole: str, cart: str, *, reward: str) -> tuple[str, str]:
    """Return the joints of pole and cart; of a robot with two joints, the second is the pole.

    Args:
        pole: Joint of the pole; empty: found.
        cart: Joint of the cart; empty: found with the pole, or none.

    Raises:
        SpecError: If a joint does not exist, or is not named where the robot has other than two.
    """
    if not pole:
        if len(spec.joints) != 2:
            raise SpecError(
                f"{reward} needs a cart and a pole; robot '{spec.name}' has joints {spec.joint_names}. Name one in "
                "parameter 'pole', and in 'cart' if there is one"
            )
        cart, pole = cart or spec.joint_names[0], spec.joint_names[1]
    if cart:
        find_joint(spec, cart, reward=reward, parameter="cart")
    return cart, find_joint(spec, pole, reward=reward, parameter="pole")


def check_parameters(reward: str, *, above: float | None = None, **values: Any) -> None:
    """Check numbers among the parameters of a reward.

    Args:
        above: Bound that they must exceed; otherwise they must be at least 0.

    Raises:
        SpecError: If one is no number, not finite or too small.
    """
    wanted = "at least 0" if above is None else f"above {above:g}"
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = number and (value >= 0 if above is None else value > above) and value < float("inf")
        if not fits:
            raise SpecError(
                f"parameter '{name}' of reward '{reward}' is {value!r}; it must be a number, {wanted}"
            )


def check_parameters_finite(reward: str, **values: Any) -> None:
    """Check numbers among the parameters of a reward that may have either sign.

    Raises:
        SpecError: If one is no number or not finite.
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise SpecError(
                f"parameter '{name}' of reward '{reward}' is {value!r}; it must be a finite number"
            )
