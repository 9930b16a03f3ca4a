"""Joint messages: convert a JointState to arrays in the order of a spec, and reject invalid messages."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_robot.math.rotations import wrap_angle
from wm_robot.spec import RobotSpec
from wm_robot.streams.rejection import BadMessageError, RejectionReason

NS_PER_S = 1_000_000_000
MAX_SPEED_RATIO = 20.0
"""Multiples of its largest speed or effort up to which that of a joint is plausible."""
MISSING_READING_ADVICE = (
    "The robot's spec observes {0}: let its hardware export {1} {0} state interface for each joint, and the "
    "joint_state_broadcaster publish them"
)
"""Next move where joints have no reading of a kind."""


def read_stamp(message: Any) -> int:
    """Return the stamp of a message in ns, as an exact integer: a float could not be compared."""
    return int(message.header.stamp.sec) * NS_PER_S + int(message.header.stamp.nanosec)


def decode_observation(message: Any, spec: RobotSpec) -> np.ndarray:
    """Decode the channels of the joints from a joint state, float64. Joints that the spec does not list are ignored.

    They are the whole observation of a robot without floating base and sensors.
    The position of a joint that wraps may count turns; it becomes an angle in [-π, π).

    Raises:
        BadMessageError: If a joint is missing or listed twice, an array has another size than the
            names, or a number is not finite or not plausible.
    """
    order = find_indices(message.name, spec.joint_names)
    parts = {f: _decode_readings(message, order, f) for f in spec.interfaces}
    if "position" in parts and spec.layout.wraps:
        wraps = [joint.wraps for joint in spec.joints]
        parts["position"][wraps] = wrap_angle(parts["position"][wraps])
    for field, values in parts.items():
        low, high = _compute_bounds(spec, field)
        bad = [
            n for n, wrong in zip(spec.joint_names, (values < low) | (values > high), strict=True) if wrong
        ]
        if bad:
            raise BadMessageError(
                RejectionReason.RANGE, f"{field} of {bad} is far outside what the joint can do"
            )
    return np.concatenate(list(parts.values()))


def _decode_readings(message: Any, order: Sequence[int], field: str) -> np.ndarray:
    """Return one kind of reading for each joint.

    Raises:
        BadMessageError: If there is not one finite number for each. If none is published, it includes the next move.
    """
    numbers = getattr(message, field)
    try:
        return select_values(numbers, message.name, order, field)
    except BadMessageError as error:
        # A broadcaster omits them, or sends NaN, where the hardware has no such sensor.
        if len(numbers) and not np.isnan(np.asarray(numbers, np.float64)).any():
            raise
        raise BadMessageError(
            error.reason,
            f"{error}. {MISSING_READING_ADVICE.format(field, 'an' if field == 'effort' else 'a')}",
        ) from error


def decode_action(message: Any, spec: RobotSpec) -> np.ndarray:
    """Decode an action from a joint command, float64 `A`.

    Raises:
        BadMessageError: As for `decode_observation`, and if an actuator is not in the spec, as in a command for
            another robot.
    """
    unknown = sorted(set(message.name) - set(spec.action_names))
    if unknown:
        raise BadMessageError(
            RejectionReason.NAMES, f"actuators {unknown} are unknown; known are {spec.action_names}"
        )
    order, action = find_indices(message.name, spec.action_names), np.empty(spec.action_dim)
    for field, actuators in group_actions(spec).items():
        action[actuators] = select_values(
            getattr(message, field), message.name, [order[number] for number in actuators], field
        )
    return action


def group_actions(spec: RobotSpec) -> dict[str, list[int]]:
    """Return the JointState arrays that carry the actions, each with the actuators whose actions are in it.

    An array has an entry for each actuator; it is NaN for actuators of another kind.
    """
    found: dict[str, list[int]] = {}
    for number, actuator in enumerate(spec.actuators):
        found.setdefault(actuator.kind, []).append(number)
    return found


def check_finite(numbers: Any, names: Sequence[str], field: str) -> np.ndarray:
    """Convert numbers to float64 and check that they are finite.

    Raises:
        BadMessageError: If one is not finite, or not as the float32 that agents compute with.
    """
    values = np.asarray(numbers, np.float64)
    with np.errstate(over="ignore"):
        good = np.isfinite(values.astype(np.float32))
    if not good.all():
        bad = [name for name, fine in zip(names, good, strict=True) if not fine]
        raise BadMessageError(RejectionReason.NOT_FINITE, f"{field} is not finite for {bad}")
    return values


def _compute_bounds(spec: RobotSpec, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of plausible readings for each joint: beyond them the sensor is broken."""
    if field == "velocity":
        fastest = MAX_SPEED_RATIO * np.array([joint.velocity for joint in spec.joints])
        return -fastest, fastest
    if field == "effort":
        strongest = MAX_SPEED_RATIO * np.array([joint.effort for joint in spec.joints])
        return -strongest, strongest
    low, high = np.array([joint.position for joint in spec.joints]).T
    return low - (high - low), high + (high - low)


def find_indices(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the index of each wanted name; reject names that are missing or listed twice."""
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadMessageError(RejectionReason.NAMES, f"joints {twice} are listed twice")
    missing = [name for name in wanted if name not in index]
    if missing:
        raise BadMessageError(
            RejectionReason.NAMES, f"joints {missing} are missing; the message has {list(names)}"
        )
    return [index[name] for name in wanted]


def select_values(numbers: Any, names: Sequence[str], order: Sequence[int], field: str) -> np.ndarray:
    if len(numbers) != len(names):
        raise BadMessageError(
            RejectionReason.SIZE, f"{field} has {len(numbers)} numbers for {len(names)} names"
        )
    return check_finite(np.asarray(numbers, np.float64)[order], [names[i] for i in order], field)
