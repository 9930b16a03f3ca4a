"""Sensor messages: convert the messages of sensors beyond the joints to channels, and channels to messages.

The functions read and fill messages by the names of their fields, and need no ROS package.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from jaxtyping import Float

from wm_robot.math.kinematics import compute_quaternion, compute_rotation_matrix
from wm_robot.math.rotations import ROTATION_SIZE, compute_matrix, orthonormalize_columns
from wm_robot.spec import BASE, FloatingBase, RobotSpec, Sensor
from wm_robot.spec.floating_base import AXES
from wm_robot.streams.joint_message import NS_PER_S, read_stamp
from wm_robot.streams.rejection import BadMessageError, RejectionReason

MAX_LIMIT_RATIO = 20.0
"""Multiples of its limit up to which a reading is plausible."""
MAX_LENGTH_ERROR = 1e-2
"""Largest deviation of the length of a quaternion from 1."""
MAX_FLOAT32 = float(np.finfo(np.float32).max)
"""Largest number that agents compute with."""
UNKNOWN = -1.0
"""First covariance of a field of sensor_msgs/Imu that the message does not carry."""
WORLD_FRAME = "world"
"""Reference frame in messages of poses that are made here."""
BASE_TOPIC = "odom"
"""Topic of the nav_msgs/Odometry that carries the channels of a floating base."""
HEADERLESS_KINDS = ("contact", "vector", "scalar")
"""Kinds whose messages have no header: they are stamped on arrival."""
WORLD_KINDS = ("pose", "odometry")
"""Kinds whose header has the frame of reference, and not that of the sensor."""


class ReadingFault(str, Enum):
    """Causes for which a field of a sensor has no valid reading."""

    MISSING = "missing"
    """No message arrived yet, or messages do not carry the field."""
    STALE = "stale"
    """The newest reading is older than the age limit."""
    NOT_FINITE = "not_finite"
    """NaN or infinite, or a quaternion without unit length."""
    RANGE = "range"
    """Far beyond the limit of the field."""
    FROZEN = "frozen"
    """Equal bits, while the model predicts a change."""
    NOISY = "noisy"
    """Far more noise than the model predicts."""


@dataclass(frozen=True)
class SensorReading:
    """Reading of a sensor from one message."""

    values: Float[np.ndarray, "C"]
    """Channels in the order of `Sensor.make_groups`; NaN in fields with a fault."""
    faults: Mapping[str, ReadingFault]
    """Field → why it has no valid reading; empty if all have one."""


def make_base_sensor(base: FloatingBase) -> Sensor:
    """Make the sensor whose messages carry the channels of a floating base, in their order."""
    return Sensor(
        name=BASE_TOPIC,
        kind="odometry",
        frame=base.body,
        limits={
            "height": abs(base.height) + base.linear_velocity,
            "linear_velocity": base.linear_velocity,
            "angular_velocity": base.angular_velocity,
        },
        required=True,
    )


def list_message_sensors(spec: RobotSpec) -> dict[str, Sensor]:
    """List what is received besides joint states: each sensor of the layout, such as `base` or `imu`."""
    base = {BASE: make_base_sensor(spec.base)} if spec.base else {}
    return base | {sensor.name: sensor for sensor in spec.sensors}


def has_header(sensor: Sensor) -> bool:
    """Whether the messages of a sensor have a header with a stamp."""
    return sensor.kind not in HEADERLESS_KINDS


def decode_reading(message: Any, sensor: Sensor) -> SensorReading:
    """Decode the reading of a sensor from a message of its kind.

    A field that is not finite, is far beyond its limit, or is not in the message, is NaN, and has a fault.

    Raises:
        BadMessageError: If the message has another frame, or not the size that the sensor declares.
    """
    _check_frame(message, sensor)
    parts, faults = [], dict[str, ReadingFault]()
    for name in sensor.fields:
        decode = _DECODERS[sensor.kind, name]
        found = decode(message, sensor)
        fault = ReadingFault.MISSING if found is None else _find_fault(found, sensor, name)
        if fault:
            faults[name] = fault
        parts.append(np.full(sensor.count_values(name), np.nan) if fault or found is None else found)
    return SensorReading(np.concatenate(parts), faults)


def fill_message(message: Any, sensor: Sensor, values: Float[np.ndarray, "C"], *, stamp: int = 0) -> Any:
    """Fill a message of the kind of a sensor, so that it is decoded to these channels, and return it.

    Args:
        message: New message; only the fields that carry the reading are set.
        values: Channels in the order of `Sensor.make_groups`; NaN for a field without a reading.
        stamp: Time of the measurement, in ns; messages without a header have none.
    """
    if has_header(sensor):
        header = message.header
        header.stamp.sec, header.stamp.nanosec = int(stamp // NS_PER_S), int(stamp % NS_PER_S)
        header.frame_id = WORLD_FRAME if sensor.kind in WORLD_KINDS else sensor.frame
    if sensor.kind == "odometry":
        message.child_frame_id = sensor.frame
    if sensor.kind == "imu":
        for name in ("orientation", "angular_velocity", "linear_acceleration"):
            getattr(message, f"{name}_covariance")[0] = UNKNOWN
    start = 0
    for name in sensor.fields:
        stop = start + sensor.count_values(name)
        _FILLERS[sensor.kind, name](message, sensor, np.asarray(values[start:stop], np.float64))
        start = stop
    return message


def read_message_stamp(message: Any, sensor: Sensor, arrival: int) -> int:
    """Return the time of the measurement in a message, in ns; without a header, the arrival minus the delay."""
    return read_stamp(message) if has_header(sensor) else arrival - round(sensor.delay * NS_PER_S)


def _check_frame(message: Any, sensor: Sensor) -> None:
    """Reject a message whose readings are in another frame; a prefix of a robot, as in `left/imu`, is accepted."""
    if sensor.kind == "odometry":
        field, frame = "child_frame_id", message.child_frame_id
    elif sensor.kind in (*HEADERLESS_KINDS, "pose") or not sensor.frame:
        return
    else:
        field, frame = "frame_id", message.header.frame_id
    if frame and frame != sensor.frame and not frame.endswith(f"/{sensor.frame}"):
        raise BadMessageError(
            RejectionReason.FRAME,
            f"{field} is '{frame}'; sensor '{sensor.name}' has the frame '{sensor.frame}' in the spec",
        )


def _find_fault(values: np.ndarray, sensor: Sensor, name: str) -> ReadingFault | None:
    # NaN if one of them is NaN.
    largest = float(np.abs(values).max())
    if not largest <= MAX_FLOAT32:
        return ReadingFault.NOT_FINITE
    return ReadingFault.RANGE if largest > MAX_LIMIT_RATIO * sensor.limits[name] else None


def _read_vector(vector: Any) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z], np.float64)


def _read_rotation(quaternion: Any) -> np.ndarray:
    """Return the first two columns of the matrix of a quaternion; NaN if its length is not 1."""
    numbers = [float(each) for each in (quaternion.w, quaternion.x, quaternion.y, quaternion.z)]
    length = math.hypot(*numbers)
    # Not finite counts as another length.
    if not abs(length - 1) <= MAX_LENGTH_ERROR:
        return np.full(ROTATION_SIZE, np.nan)
    return compute_rotation_matrix([each / length for each in numbers])[:, :2].T.ravel()


def _decode_imu(message: Any, name: str) -> np.ndarray | None:
    """Return a field of an IMU; None if the message does not carry it."""
    if getattr(message, f"{name}_covariance")[0] == UNKNOWN:
        return None
    field = getattr(message, name)
    return _read_rotation(field) if name == "orientation" else _read_vector(field)


def _decode_range(message: Any, sensor: Sensor) -> np.ndarray:
    interval = float(message.min_range), float(message.max_range)
    return _limit_distances(np.array([message.range], np.float64), interval, sensor.limits["range"])


def _decode_scan(message: Any, sensor: Sensor) -> np.ndarray:
    """Return the nearest distance in each sector; NaN in a sector in which no beam has a distance.

    Raises:
        BadMessageError: If a sector has no beam.
    """
    beams = np.asarray(message.ranges, np.float64)
    interval = float(message.range_min), float(message.range_max)
    distances = _limit_distances(beams, interval, sensor.limits["range"])
    sectors = _find_sectors(message, len(beams), sensor)
    empty = sorted(set(range(sensor.size)) - set(sectors.tolist()))
    if empty:
        low, high = sensor.angle
        raise BadMessageError(
            RejectionReason.SIZE,
            f"the scan has no beam in sectors {empty} of sensor '{sensor.name}': {len(beams)} beams from "
            f"{float(message.angle_min):.3g} rad in steps of {float(message.angle_increment):.3g} rad, for "
            f"{sensor.size} sectors from {low:.3g} to {high:.3g} rad",
        )
    inside = sectors >= 0
    nearest = np.full(sensor.size, np.inf)
    np.fmin.at(nearest, sectors[inside], distances[inside])
    return np.where(np.isinf(nearest), np.nan, nearest)


def _find_sectors(message: Any, count: int, sensor: Sensor) -> np.ndarray:
    """Return the sector of each beam of a scan; -1 for a beam outside all sectors."""
    start, step = float(message.angle_min), float(message.angle_increment)
    if not math.isfinite(start + step):
        return np.full(count, -1)
    low, high = sensor.angle
    turned = (start + step * np.arange(count) - low) % (2 * math.pi)
    # A beam on the last edge belongs to the last sector, as one that rounding puts below the first to the first.
    slack = 1e-5
    turned = np.where(turned > 2 * math.pi - slack, 0.0, turned)
    found = np.minimum((turned * sensor.size / (high - low)).astype(int), sensor.size - 1)
    return np.where(turned <= high - low + slack, found, -1)


def _limit_distances(distances: np.ndarray, interval: tuple[float, float], limit: float) -> np.ndarray:
    """Return distances up to the limit, which also stands for nothing in reach; NaN remains.

    Source: REP 117. +inf: nothing in reach; -inf: too near to measure. A number outside the interval of the sensor
    is no distance.
    """
    low, high = interval if interval[0] < interval[1] else (0.0, math.inf)
    found = np.where(distances == -math.inf, low, distances)
    is_outside = (found < low) | (found > high)
    return np.where(is_outside, limit, np.minimum(found, limit))


def _decode_array(message: Any, sensor: Sensor) -> np.ndarray:
    if len(message.data) != sensor.size:
        raise BadMessageError(
            RejectionReason.SIZE,
            f"data has {len(message.data)} numbers; sensor '{sensor.name}' has size {sensor.size}",
        )
    return np.asarray(message.data, np.float64)


def _number(value: Any) -> np.ndarray:
    return np.array([value], np.float64)


_DECODERS: Mapping[tuple[str, str], Callable[[Any, Sensor], np.ndarray | None]] = {
    ("imu", "orientation"): lambda m, _: _decode_imu(m, "orientation"),
    ("imu", "angular_velocity"): lambda m, _: _decode_imu(m, "angular_velocity"),
    ("imu", "linear_acceleration"): lambda m, _: _decode_imu(m, "linear_acceleration"),
    ("wrench", "force"): lambda m, _: _read_vector(m.wrench.force),
    ("wrench", "torque"): lambda m, _: _read_vector(m.wrench.torque),
    ("contact", "force"): lambda m, _: _number(m.data),
    ("range", "range"): _decode_range,
    ("scan", "range"): _decode_scan,
    ("odometry", "height"): lambda m, _: _number(m.pose.pose.position.z),
    ("odometry", "orientation"): lambda m, _: _read_rotation(m.pose.pose.orientation),
    ("odometry", "linear_velocity"): lambda m, _: _read_vector(m.twist.twist.linear),
    ("odometry", "angular_velocity"): lambda m, _: _read_vector(m.twist.twist.angular),
    ("pose", "position"): lambda m, _: _read_vector(m.pose.position),
    ("pose", "orientation"): lambda m, _: _read_rotation(m.pose.orientation),
    ("twist", "linear_velocity"): lambda m, _: _read_vector(m.twist.linear),
    ("twist", "angular_velocity"): lambda m, _: _read_vector(m.twist.angular),
    ("battery", "voltage"): lambda m, _: _number(m.voltage),
    ("temperature", "temperature"): lambda m, _: _number(m.temperature),
    ("vector", "value"): _decode_array,
    ("scalar", "value"): lambda m, _: _number(m.data),
}
"""Kind and field → function that reads the field; None if the message does not carry it."""


def _fill_vector(vector: Any, values: np.ndarray) -> None:
    for axis, value in zip(AXES, values, strict=True):
        setattr(vector, axis, float(value))


def _fill_rotation(quaternion: Any, columns: np.ndarray) -> None:
    numbers = np.full(4, np.nan)
    if np.isfinite(columns).all():
        numbers = compute_quaternion(compute_matrix(orthonormalize_columns(columns)).reshape(3, 3).T)
    for part, value in zip("wxyz", numbers, strict=True):
        setattr(quaternion, part, float(value))


def _fill_imu(message: Any, name: str, values: np.ndarray) -> None:
    is_known = bool(np.isfinite(values).all())
    getattr(message, f"{name}_covariance")[0] = 0.0 if is_known else UNKNOWN
    if is_known:
        (_fill_rotation if name == "orientation" else _fill_vector)(getattr(message, name), values)


def _fill_range(message: Any, sensor: Sensor, values: np.ndarray) -> None:
    message.min_range, message.max_range = 0.0, float(sensor.limits["range"])
    message.range = float(values[0])


def _fill_scan(message: Any, sensor: Sensor, values: np.ndarray) -> None:
    """Fill a scan with one beam in the middle of each sector."""
    low, high = sensor.angle
    step = (high - low) / sensor.size
    message.angle_min, message.angle_max = float(low + step / 2), float(high - step / 2)
    message.angle_increment = float(step)
    message.range_min, message.range_max = 0.0, float(sensor.limits["range"])
    message.ranges = [float(value) for value in values]


def _fill_numbers(message: Any, values: np.ndarray) -> None:
    message.data = [float(value) for value in values]


def _fill_number(field: str) -> Callable[[Any, Sensor, np.ndarray], None]:
    return lambda message, _, values: setattr(message, field, float(values[0]))


_FILLERS: Mapping[tuple[str, str], Callable[[Any, Sensor, np.ndarray], None]] = {
    ("imu", "orientation"): lambda m, _, v: _fill_imu(m, "orientation", v),
    ("imu", "angular_velocity"): lambda m, _, v: _fill_imu(m, "angular_velocity", v),
    ("imu", "linear_acceleration"): lambda m, _, v: _fill_imu(m, "linear_acceleration", v),
    ("wrench", "force"): lambda m, _, v: _fill_vector(m.wrench.force, v),
    ("wrench", "torque"): lambda m, _, v: _fill_vector(m.wrench.torque, v),
    ("contact", "force"): _fill_number("data"),
    ("range", "range"): _fill_range,
    ("scan", "range"): _fill_scan,
    ("odometry", "height"): lambda m, _, v: setattr(m.pose.pose.position, "z", float(v[0])),
    ("odometry", "orientation"): lambda m, _, v: _fill_rotation(m.pose.pose.orientation, v),
    ("odometry", "linear_velocity"): lambda m, _, v: _fill_vector(m.twist.twist.linear, v),
    ("odometry", "angular_velocity"): lambda m, _, v: _fill_vector(m.twist.twist.angular, v),
    ("pose", "position"): lambda m, _, v: _fill_vector(m.pose.position, v),
    ("pose", "orientation"): lambda m, _, v: _fill_rotation(m.pose.orientation, v),
    ("twist", "linear_velocity"): lambda m, _, v: _fill_vector(m.twist.linear, v),
    ("twist", "angular_velocity"): lambda m, _, v: _fill_vector(m.twist.angular, v),
    ("battery", "voltage"): _fill_number("voltage"),
    ("temperature", "temperature"): _fill_number("temperature"),
    ("vector", "value"): lambda m, _, v: _fill_numbers(m, v),
    ("scalar", "value"): _fill_number("data"),
}
"""Kind and field → function that fills the field."""
