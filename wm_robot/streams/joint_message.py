"""From a JointState to numbers in the order of a spec. It refuses: what comes out may be acted on, and lived."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.streams.rejection import BadMessageError, Refusal

NANO = 1_000_000_000
BEYOND_SPEED = 20.0
"""Times its largest speed that a joint may be said to move."""
NOT_SENSED = (
    "The robot's spec observes {0}: let its hardware export a {0} state interface for each joint, and the "
    "joint_state_broadcaster publish them"
)
"""The next move where joints have no reading of a kind."""


def stamp_of(message: Any) -> int:
    """Stamp of a message in ns, exact: as a float it could not be compared."""
    return int(message.header.stamp.sec) * NANO + int(message.header.stamp.nanosec)


def sensed(message: Any, spec: RobotSpec) -> np.ndarray:
    """What the robot sensed, float64 `O`. Joints that the spec does not list are ignored.

    Raises:
        BadMessageError: If a joint is missing or listed twice, an array has another size than the
            names, or a number is not finite or cannot be.
    """
    order = _order(message.name, spec.joint_names)
    parts = {f: _readings(message, order, f) for f in spec.interfaces}
    for field, values in parts.items():
        low, high = _possible(spec, field)
        bad = [
            n for n, wrong in zip(spec.joint_names, (values < low) | (values > high), strict=True) if wrong
        ]
        if bad:
            raise BadMessageError(Refusal.RANGE, f"{field} of {bad} is far outside what the joint can do")
    return np.concatenate(list(parts.values()))


def _readings(message: Any, order: Sequence[int], field: str) -> np.ndarray:
    """One kind of reading of each joint.

    Raises:
        BadMessageError: If there is not one finite number for each; with how to get them, where they are unknown.
    """
    numbers = getattr(message, field)
    try:
        return _values(numbers, message.name, order, field)
    except BadMessageError as error:
        # A broadcaster leaves them out, or says NaN, where the hardware has no such sensor.
        if len(numbers) and not np.isnan(np.asarray(numbers, np.float64)).any():
            raise
        raise BadMessageError(error.reason, f"{error}. {NOT_SENSED.format(field)}") from error


def told(message: Any, spec: RobotSpec) -> np.ndarray:
    """What the actuators are told, float64 `A`.

    Raises:
        BadMessageError: As for `sensed`, and if an actuator is unknown: whoever sent it means another robot.
    """
    unknown = sorted(set(message.name) - set(spec.action_names))
    if unknown:
        raise BadMessageError(
            Refusal.NAMES, f"actuators {unknown} are unknown; known are {spec.action_names}"
        )
    field = action_field(spec)
    return _values(getattr(message, field), message.name, _order(message.name, spec.action_names), field)


def action_field(spec: RobotSpec) -> str:
    """Array of a JointState that carries the actions of a robot: servos take positions, motors effort.

    Raises:
        SpecError: If it has both.
    """
    fields = {"position" if actuator.unit == "rad" else "effort" for actuator in spec.actuators}
    if len(fields) != 1:
        raise SpecError(f"robot '{spec.name}' mixes servos and motors; a JointState carries one kind")
    return fields.pop()


def finite(numbers: Any, names: Sequence[str], field: str) -> np.ndarray:
    """Numbers as float64.

    Raises:
        BadMessageError: If one is not finite, or would not be as the float32 that agents reckon with.
    """
    values = np.asarray(numbers, np.float64)
    with np.errstate(over="ignore"):
        good = np.isfinite(values.astype(np.float32))
    if not good.all():
        bad = [name for name, fine in zip(names, good, strict=True) if not fine]
        raise BadMessageError(Refusal.NOT_FINITE, f"{field} is not finite for {bad}")
    return values


def _possible(spec: RobotSpec, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of what a sensor may say of each joint: beyond them the reading is broken, and not the robot."""
    if field == "velocity":
        fastest = BEYOND_SPEED * np.array([joint.velocity for joint in spec.joints])
        return -fastest, fastest
    low, high = np.array([joint.position for joint in spec.joints]).T
    return low - (high - low), high + (high - low)


def _order(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where each wanted name is."""
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadMessageError(Refusal.NAMES, f"joints {twice} are listed twice")
    missing = [name for name in wanted if name not in index]
    if missing:
        raise BadMessageError(Refusal.NAMES, f"joints {missing} are missing; the message has {list(names)}")
    return [index[name] for name in wanted]


def _values(numbers: Any, names: Sequence[str], order: Sequence[int], field: str) -> np.ndarray:
    if len(numbers) != len(names):
        raise BadMessageError(Refusal.SIZE, f"{field} has {len(numbers)} numbers for {len(names)} names")
    return finite(np.asarray(numbers, np.float64)[order], [names[i] for i in order], field)
