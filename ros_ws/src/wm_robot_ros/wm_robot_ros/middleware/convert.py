"""Conversion between ROS messages and arrays. Invalid messages are rejected, so every result may be acted on.

The functions are pure. Every scalar is cast explicitly: the message classes check nothing by default, and a NumPy
scalar in a float field is published as garbage.
"""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PointStamped, PoseStamped, TwistStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.streams import joint_message
from wm_robot.streams.goal_message import BASE_FRAME as BASE_FRAME
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot.streams.joint_message import NS_PER_S, group_actions
from wm_robot.streams.joint_message import read_stamp as read_stamp
from wm_robot.types import Observation

GOAL_MESSAGES: Mapping[str, type] = {
    "PointStamped": PointStamped,
    "PoseStamped": PoseStamped,
    "TwistStamped": TwistStamped,
    "JointState": JointState,
    "Float64MultiArray": Float64MultiArray,
}
"""Goal type of a task → message."""
DIAGNOSTIC_LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warn": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
    "stale": DiagnosticStatus.STALE,
}


def make_time_message(stamp: int) -> Time:
    """Convert a stamp in ns to a message."""
    return Time(sec=int(stamp // NS_PER_S), nanosec=int(stamp % NS_PER_S))


def decode_joint_message(message: JointState, spec: RobotSpec) -> np.ndarray:
    """Convert a message to the channels of the joints, float32, in the order of the spec.

    Raises:
        BadMessageError: See `joint_message.decode_observation`.
    """
    return joint_message.decode_observation(message, spec).astype(np.float32)


def decode_observation_message(message: JointState, spec: RobotSpec) -> Observation:
    """Convert a message to the observation of a robot that senses its joints alone, float32.

    Raises:
        BadMessageError: See `joint_message.decode_observation`.
    """
    return Observation(stamp=read_stamp(message) / NS_PER_S, values=decode_joint_message(message, spec))


def decode_action_message(message: JointState, spec: RobotSpec) -> np.ndarray:
    """Convert a message to an action, float32 `A`, in the order of the spec's actuators.

    Raises:
        BadMessageError: See `joint_message.decode_action`.
    """
    return joint_message.decode_action(message, spec).astype(np.float32)


def decode_goal_message(message: Any, decoder: GoalDecoder) -> np.ndarray:
    """Convert a message to a goal, float32 `G`.

    Raises:
        BadMessageError: See `GoalDecoder.decode`.
    """
    return decoder.decode(message).astype(np.float32)


def make_observation_message(values: np.ndarray, spec: RobotSpec, stamp: int) -> JointState:
    """Convert the joints of an observation `O` to a message; the stamp is in ns. Other sensors have own messages."""
    message = _make_joint_message(spec.joint_names, stamp)
    joints = values[: len(spec.joints) * len(spec.interfaces)]
    for field, part in zip(spec.interfaces, np.split(joints, len(spec.interfaces)), strict=True):
        setattr(message, field, _make_double_array(part))
    return message


def make_action_message(values: np.ndarray, spec: RobotSpec, stamp: int) -> JointState:
    """Convert an action `A` to a message; the stamp is in ns."""
    message = _make_joint_message(spec.action_names, stamp)
    for field, actuators in group_actions(spec).items():
        listed = np.full(spec.action_dim, np.nan)
        listed[actuators] = values[actuators]
        setattr(message, field, _make_double_array(listed))
    return message


def make_trajectory_message(values: np.ndarray, spec: RobotSpec) -> JointTrajectory:
    """Convert an action `A` to a message for a joint_trajectory_controller: one point, one control period ahead.

    Raises:
        SpecError: If an actuator is not a position servo, because a trajectory needs positions.
    """
    motors = [actuator.name for actuator in spec.actuators if not actuator.is_servo]
    if motors:
        raise SpecError(
            f"actuators {motors} are not position servos. Set command.kind to float64_multi_array"
        )
    point = JointTrajectoryPoint(
        positions=_make_double_array(values), time_from_start=make_duration_message(spec.dt)
    )
    # Stamp zero: the controller counts the time from the arrival.
    return JointTrajectory(joint_names=[actuator.joint for actuator in spec.actuators], points=[point])


def make_array_message(values: np.ndarray, spec: RobotSpec) -> Float64MultiArray:
    """Convert an action `A` to a message for a forward controller, in the order of the spec's actuators."""
    return Float64MultiArray(data=_make_double_array(values))


def make_duration_message(seconds: float) -> Duration:
    """Convert a duration in s to a message."""
    nanoseconds = round(seconds * NS_PER_S)
    return Duration(sec=int(nanoseconds // NS_PER_S), nanosec=int(nanoseconds % NS_PER_S))


def make_point_message(values: np.ndarray, stamp: int) -> PointStamped:
    """Convert a point `3`, in m in the frame of the base, to a message; the stamp is in ns."""
    message = PointStamped()
    message.header.stamp, message.header.frame_id = make_time_message(stamp), BASE_FRAME
    message.point.x, message.point.y, message.point.z = (float(value) for value in values)
    return message


def make_goal_message(values: np.ndarray, decoder: GoalDecoder, stamp: int) -> Any:
    """Convert a goal `G` to the message of its task; the stamp is in ns. See `GoalDecoder.decode`."""
    numbers = [float(value) for value in values]
    if decoder.goal_type == "PointStamped":
        return make_point_message(values, stamp)
    if decoder.goal_type == "Float64MultiArray":
        return Float64MultiArray(data=_make_double_array(values))
    if decoder.goal_type == "JointState":
        message = _make_joint_message(decoder.joints, stamp)
        message.position = _make_double_array(values)
        return message
    message = GOAL_MESSAGES[decoder.goal_type]()
    message.header.stamp, message.header.frame_id = make_time_message(stamp), BASE_FRAME
    if isinstance(message, PoseStamped):
        point, quaternion = message.pose.position, message.pose.orientation
        point.x, point.y, point.z = numbers[:3]
        quaternion.x, quaternion.y, quaternion.z, quaternion.w = numbers[3:]
    else:
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = numbers[:3]
        angular.x, angular.y, angular.z = numbers[3:]
    return message


def make_number_message(value: float) -> Float64:
    return Float64(data=float(value))


def make_json_message(values: Mapping[str, Any]) -> String:
    """Encode plain values as a message with JSON text."""
    return String(data=json.dumps(values, allow_nan=False, separators=(",", ":")))


def decode_json_message(message: String) -> dict[str, Any]:
    """Decode a message with JSON text."""
    return dict(json.loads(message.data))


def make_diagnostics_message(
    stamp: int, hardware: str, components: Iterable[tuple[str, str, str, Mapping[str, Any]]]
) -> DiagnosticArray:
    """Create the diagnostics message of a node.

    Args:
        stamp: Stamp of the message, in ns.
        hardware: Name of the robot model.
        components: Name, level (a key of `DIAGNOSTIC_LEVELS`), message and values of each component.
    """
    message = DiagnosticArray()
    message.header.stamp = make_time_message(stamp)
    message.status = [
        DiagnosticStatus(
            level=DIAGNOSTIC_LEVELS[level],
            name=name,
            message=text,
            hardware_id=hardware,
            values=[KeyValue(key=str(k), value=str(v)) for k, v in values.items()],
        )
        for name, level, text, values in components
    ]
    return message


def _make_joint_message(names: Sequence[str], stamp: int) -> JointState:
    message = JointState()
    message.header.stamp, message.header.frame_id = make_time_message(stamp), BASE_FRAME
    message.name = list(names)
    return message


def _make_double_array(values: np.ndarray) -> array:
    # Messages store an array.array directly; they convert an ndarray or list element by element.
    return array("d", np.asarray(values, np.float64).tobytes())
