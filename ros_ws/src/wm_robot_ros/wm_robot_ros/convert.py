"""Between messages and arrays. Pure, and it refuses: what comes out may be acted on.

Every scalar is cast by hand. The message classes check nothing by default, and a numpy scalar in a
float field is published as garbage.
"""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_ros.refusal import BadMessageError, Refusal

NANO = 1_000_000_000
FRAME = "base_link"
BEYOND_SPEED = 20.0
"""Times its largest speed that a joint may be said to move."""
LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warn": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
    "stale": DiagnosticStatus.STALE,
}


def stamp_of(message: JointState | PointStamped) -> int:
    """Stamp of a message in ns, exact: as a float it could not be compared."""
    return int(message.header.stamp.sec) * NANO + int(message.header.stamp.nanosec)


def time_message(stamp: int) -> Time:
    """A stamp in ns as a message."""
    return Time(sec=int(stamp // NANO), nanosec=int(stamp % NANO))


def observation(message: JointState, spec: RobotSpec) -> Observation:
    """What the robot sensed, in the order of the spec. Joints that the spec does not list are ignored.

    Raises:
        BadMessageError: If a joint is missing or listed twice, an array has another size than the
            names, or a number is not finite or cannot be.
    """
    order = _order(message.name, spec.joint_names)
    parts = {f: _values(getattr(message, f), message.name, order, f) for f in spec.interfaces}
    for field, values in parts.items():
        low, high = _possible(spec, field)
        bad = [
            n for n, wrong in zip(spec.joint_names, (values < low) | (values > high), strict=True) if wrong
        ]
        if bad:
            raise BadMessageError(Refusal.RANGE, f"{field} of {bad} is far outside what the joint can do")
    return Observation(stamp=stamp_of(message) / NANO, values=np.concatenate(list(parts.values())))


def _possible(spec: RobotSpec, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of what a sensor may say of each joint: beyond them the reading is broken, and not the robot."""
    if field == "velocity":
        fastest = BEYOND_SPEED * np.array([joint.velocity for joint in spec.joints])
        return -fastest, fastest
    low, high = np.array([joint.position for joint in spec.joints]).T
    return low - (high - low), high + (high - low)


def action(message: JointState, spec: RobotSpec) -> np.ndarray:
    """An action, float32 `A`, in the order of the spec's actuators.

    Raises:
        BadMessageError: As for `observation`, and if an actuator is unknown: whoever sent it means
            another robot.
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


def goal(message: PointStamped) -> np.ndarray:
    """Where the gripper should be, float32 `3`, in m.

    Raises:
        BadMessageError: If a number is not finite, or the point is in another frame than the base's.
    """
    if message.header.frame_id not in ("", FRAME):
        raise BadMessageError(
            Refusal.FRAME, f"the target is in frame '{message.header.frame_id}', not '{FRAME}'"
        )
    return _finite([message.point.x, message.point.y, message.point.z], ("x", "y", "z"), "point")


def observation_message(values: np.ndarray, spec: RobotSpec, stamp: int) -> JointState:
    """An observation `O` as a message; the stamp in ns."""
    message = _joint_message(spec.joint_names, stamp)
    for field, part in zip(spec.interfaces, np.split(values, len(spec.interfaces)), strict=True):
        setattr(message, field, _doubles(part))
    return message


def action_message(values: np.ndarray, spec: RobotSpec, stamp: int) -> JointState:
    """An action `A` as a message; the stamp in ns."""
    message = _joint_message(spec.action_names, stamp)
    setattr(message, action_field(spec), _doubles(values))
    return message


def point_message(values: np.ndarray, stamp: int) -> PointStamped:
    """A point `3`, in m in the frame of the base, as a message; the stamp in ns."""
    message = PointStamped()
    message.header.stamp, message.header.frame_id = time_message(stamp), FRAME
    message.point.x, message.point.y, message.point.z = (float(value) for value in values)
    return message


def number_message(value: float) -> Float64:
    return Float64(data=float(value))


def json_message(values: Mapping[str, Any]) -> String:
    """Plain values as JSON text."""
    return String(data=json.dumps(values, allow_nan=False, separators=(",", ":")))


def json_values(message: String) -> dict[str, Any]:
    """Inverse of `json_message`."""
    return dict(json.loads(message.data))


def diagnostics_message(
    stamp: int, hardware: str, components: Iterable[tuple[str, str, str, Mapping[str, Any]]]
) -> DiagnosticArray:
    """Diagnostics of a node.

    Args:
        stamp: In ns.
        hardware: The robot's model.
        components: Name, level (a key of `LEVELS`), what it means and numbers by name.
    """
    message = DiagnosticArray()
    message.header.stamp = time_message(stamp)
    message.status = [
        DiagnosticStatus(
            level=LEVELS[level],
            name=name,
            message=text,
            hardware_id=hardware,
            values=[KeyValue(key=str(k), value=str(v)) for k, v in values.items()],
        )
        for name, level, text, values in components
    ]
    return message


def _joint_message(names: Sequence[str], stamp: int) -> JointState:
    message = JointState()
    message.header.stamp, message.header.frame_id = time_message(stamp), FRAME
    message.name = list(names)
    return message


def _doubles(values: np.ndarray) -> array:
    # An array.array is taken as it is; an ndarray or list would be converted element by element.
    return array("d", np.asarray(values, np.float64).tobytes())


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


def _values(numbers: Sequence[float], names: Sequence[str], order: Sequence[int], field: str) -> np.ndarray:
    if len(numbers) != len(names):
        raise BadMessageError(Refusal.SIZE, f"{field} has {len(numbers)} numbers for {len(names)} names")
    return _finite(np.asarray(numbers, np.float64)[order], [names[i] for i in order], field)


def _finite(numbers: Any, names: Sequence[str], field: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.asarray(numbers, np.float64).astype(np.float32)
    if not np.isfinite(values).all():
        bad = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
        raise BadMessageError(Refusal.NOT_FINITE, f"{field} of {bad} is not finite")
    return values
