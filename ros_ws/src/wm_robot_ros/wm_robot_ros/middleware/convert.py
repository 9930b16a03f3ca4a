"""Between messages and arrays. Pure, and it refuses: what comes out may be acted on.

Every scalar is cast by hand. The message classes check nothing by default, and a numpy scalar in a
float field is published as garbage.
"""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.streams import joint_message
from wm_robot.streams.joint_message import NANO, action_field, finite
from wm_robot.streams.joint_message import stamp_of as stamp_of
from wm_robot.streams.rejection import BadMessageError, Refusal
from wm_robot.types import Observation

FRAME = "base_link"
LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warn": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
    "stale": DiagnosticStatus.STALE,
}


def time_message(stamp: int) -> Time:
    """A stamp in ns as a message."""
    return Time(sec=int(stamp // NANO), nanosec=int(stamp % NANO))


def observation(message: JointState, spec: RobotSpec) -> Observation:
    """What the robot sensed, float32, in the order of the spec.

    Raises:
        BadMessageError: See `joint_message.sensed`.
    """
    values = joint_message.sensed(message, spec).astype(np.float32)
    return Observation(stamp=stamp_of(message) / NANO, values=values)


def action(message: JointState, spec: RobotSpec) -> np.ndarray:
    """An action, float32 `A`, in the order of the spec's actuators.

    Raises:
        BadMessageError: See `joint_message.told`.
    """
    return joint_message.told(message, spec).astype(np.float32)


def goal(message: PointStamped) -> np.ndarray:
    """Where the gripper should be, float32 `3`, in m.

    Raises:
        BadMessageError: If a number is not finite, or the point is in another frame than the base's.
    """
    if message.header.frame_id not in ("", FRAME):
        raise BadMessageError(
            Refusal.FRAME, f"the target is in frame '{message.header.frame_id}', not '{FRAME}'"
        )
    point = [message.point.x, message.point.y, message.point.z]
    return finite(point, ("x", "y", "z"), "point").astype(np.float32)


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


def trajectory_message(values: np.ndarray, spec: RobotSpec) -> JointTrajectory:
    """An action `A` for a joint_trajectory_controller: one point, a control period from now.

    Raises:
        SpecError: If an actuator is no servo; a trajectory has no efforts of its own.
    """
    motors = [actuator.name for actuator in spec.actuators if actuator.unit != "rad"]
    if motors:
        raise SpecError(f"actuators {motors} take no position, so no trajectory. Use float64_multi_array")
    point = JointTrajectoryPoint(positions=_doubles(values), time_from_start=duration_message(spec.dt))
    # Stamp zero: from when it arrives.
    return JointTrajectory(joint_names=[actuator.joint for actuator in spec.actuators], points=[point])


def array_message(values: np.ndarray, spec: RobotSpec) -> Float64MultiArray:
    """An action `A` for a forward controller, in the order of the spec's actuators."""
    return Float64MultiArray(data=_doubles(values))


def duration_message(seconds: float) -> Duration:
    """A span of time in s as a message."""
    nanoseconds = round(seconds * NANO)
    return Duration(sec=int(nanoseconds // NANO), nanosec=int(nanoseconds % NANO))


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
