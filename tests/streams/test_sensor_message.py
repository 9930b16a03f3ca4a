"""Messages of sensors become channels, and channels become messages."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.streams.message_fakes import make_message
from wm_robot.math.kinematics import compute_rotation_matrix
from wm_robot.spec import SENSOR_KINDS, Actuator, FloatingBase, Joint, RobotSpec, Sensor
from wm_robot.streams.joint_message import decode_observation, read_stamp
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot.streams.sensor_message import (
    ReadingFault,
    decode_reading,
    fill_message,
    has_header,
    list_message_sensors,
    read_message_stamp,
)

STAMP = 1_234_567_890_123
SENSORS = {
    kind: Sensor(
        name=f"my_{kind}",
        kind=kind,
        frame="torso" if SENSOR_KINDS[kind].has_frame else "",
        size=5 if kind in ("vector", "scan") else 0,
        limits={name: field.limit or 10.0 for name, field in SENSOR_KINDS[kind].fields.items()},
        nominal=24.0 if kind == "battery" else 0.0,
    )
    for kind in SENSOR_KINDS
}


def imu(**fields):
    return Sensor(name="imu", kind="imu", frame="torso", **fields)


def draw_channels(sensor, seed):
    """Channels within their limits, each of which is recognisable."""
    rng, parts = np.random.default_rng(seed), []
    for group in sensor.make_groups(50.0):
        if group.is_rotation:
            quaternion = rng.normal(size=4)
            parts.append(compute_rotation_matrix(quaternion / np.linalg.norm(quaternion))[:, :2].T.ravel())
        else:
            parts.append(rng.uniform(0.1, 0.9, len(group.names)) * group.limits)
    return np.concatenate(parts)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", SENSOR_KINDS)
def test_channels_of_each_kind_are_decoded_from_the_message_that_they_fill(kind, seed):
    sensor = SENSORS[kind]
    channels = draw_channels(sensor, seed)
    message = fill_message(make_message(kind), sensor, channels, stamp=STAMP)
    reading = decode_reading(message, sensor)
    assert reading.faults == {} and reading.values.dtype == np.float64
    np.testing.assert_allclose(reading.values, channels, atol=1e-12)
    assert read_message_stamp(message, sensor, 77) == (STAMP if has_header(sensor) else 77)
    if has_header(sensor):
        assert read_stamp(message) == STAMP


@pytest.mark.parametrize("kind", SENSOR_KINDS)
def test_channels_without_a_reading_are_decoded_as_none(kind):
    sensor = SENSORS[kind]
    size = len(draw_channels(sensor, 0))
    reading = decode_reading(fill_message(make_message(kind), sensor, np.full(size, np.nan)), sensor)
    assert np.isnan(reading.values).all()
    fault = ReadingFault.MISSING if kind == "imu" else ReadingFault.NOT_FINITE
    assert reading.faults == dict.fromkeys(sensor.fields, fault)


@pytest.mark.parametrize("kind", SENSOR_KINDS)
def test_a_number_far_beyond_its_limit_masks_its_field_alone(kind):
    sensor = SENSORS[kind]
    groups = sensor.make_groups(50.0)
    start = 0
    for name, group in zip(sensor.fields, groups, strict=True):
        channels = draw_channels(sensor, 0)
        if not group.is_rotation and kind not in ("range", "scan"):
            channels[start] = -20.5 * group.limits[0]
            reading = decode_reading(fill_message(make_message(kind), sensor, channels), sensor)
            assert reading.faults == {name: ReadingFault.RANGE}
            bad = np.isnan(reading.values)
            assert bad[start : start + len(group.names)].all() and bad.sum() == len(group.names)
        start += len(group.names)


def test_an_orientation_is_the_first_two_columns_of_its_matrix():
    message, sensor = make_message("imu"), imu(fields=("orientation",))
    # A quarter turn about z: the x axis points to y, and the y axis to -x.
    message.orientation.z = message.orientation.w = math.sqrt(0.5)
    np.testing.assert_allclose(decode_reading(message, sensor).values, [0, 1, 0, -1, 0, 0], atol=1e-15)


@pytest.mark.parametrize(
    ("length", "is_reading"), [(1.009, True), (0.991, True), (1.011, False), (0.0, False)]
)
def test_a_quaternion_is_a_reading_up_to_a_hundredth_from_length_one(length, is_reading):
    message, sensor = make_message("imu"), imu(fields=("orientation",))
    message.orientation.w = length
    reading = decode_reading(message, sensor)
    if is_reading:
        np.testing.assert_allclose(reading.values, [1, 0, 0, 0, 1, 0], atol=1e-15)
    else:
        assert np.isnan(reading.values).all()
        assert reading.faults == {"orientation": ReadingFault.NOT_FINITE}


def test_a_rotation_is_six_numbers_or_none():
    message, sensor = make_message("imu"), imu()
    message.orientation.x = math.nan
    message.angular_velocity.y = 0.5
    values = decode_reading(message, sensor).values
    assert np.isnan(values[:6]).all()
    np.testing.assert_array_equal(values[6:], [0, 0.5, 0, 0, 0, 0])


def test_a_field_that_an_imu_does_not_have_is_missing():
    message, sensor = make_message("imu"), imu()
    for name in ("orientation", "linear_acceleration"):
        getattr(message, f"{name}_covariance")[0] = -1.0
    reading = decode_reading(message, sensor)
    assert reading.faults == dict.fromkeys(("orientation", "linear_acceleration"), ReadingFault.MISSING)
    assert np.isfinite(reading.values).tolist() == [False] * 6 + [True] * 3 + [False] * 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_a_number_that_is_no_float32_is_not_finite(value):
    message, sensor = make_message("wrench"), SENSORS["wrench"]
    message.wrench.torque.z, message.wrench.force.x = value, 2.0
    reading = decode_reading(message, sensor)
    assert reading.faults == {"torque": ReadingFault.NOT_FINITE}
    np.testing.assert_array_equal(reading.values, [2, 0, 0, math.nan, math.nan, math.nan])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, 0.5), (3.5, 2.0), (math.inf, 2.0), (4.5, 2.0), (0.01, 2.0), (-math.inf, 0.02), (0.02, 0.02)],
)
def test_nothing_in_reach_of_a_range_reads_as_its_limit(value, expected):
    sensor, message = (
        Sensor(name="front", kind="range", frame="torso", limits={"range": 2.0}),
        make_message("range"),
    )
    message.min_range, message.max_range, message.range = 0.02, 4.0, value
    assert decode_reading(message, sensor).values == [expected]
    message.range = math.nan
    assert decode_reading(message, sensor).faults == {"range": ReadingFault.NOT_FINITE}


def scanner(size, angle):
    return Sensor(name="laser", kind="scan", frame="torso", limits={"range": 5.0}, size=size, angle=angle)


def make_scan(ranges, start, step):
    message = make_message("scan")
    message.angle_min, message.angle_increment, message.ranges = start, step, ranges
    message.angle_max = start + step * (len(ranges) - 1)
    message.range_min, message.range_max = 0.1, 30.0
    return message


def test_a_sector_of_a_scan_has_the_distance_of_its_nearest_beam():
    sensor = scanner(3, (-0.6, 0.6))
    # Beams from -0.8 to 0.8: the first and last are outside all sectors.
    ranges = [0.2, 3.0, 2.0, 4.0, math.nan, math.inf, 7.0, 1.5, 0.2]
    message = make_scan(ranges, -0.8, 0.2)
    np.testing.assert_allclose(decode_reading(message, sensor).values, [2.0, 4.0, 1.5])
    message.ranges[3] = 6.0
    np.testing.assert_allclose(decode_reading(message, sensor).values, [2.0, 5.0, 1.5])


@pytest.mark.parametrize("start", [-math.pi, 0.0])
def test_a_scan_may_begin_in_any_direction(start):
    sensor = scanner(4, (-math.pi, math.pi))
    step = 2 * math.pi / 360
    angle = (start + (np.arange(360) + 0.5) * step + math.pi) % (2 * math.pi) - math.pi
    ranges = np.where(np.abs(angle - 0.3) < 0.1, 1.0, 3.0) - (angle < -2.0) * 0.5
    values = decode_reading(make_scan(ranges.tolist(), start + step / 2, step), sensor).values
    np.testing.assert_allclose(values, [2.5, 3.0, 1.0, 3.0])


def test_a_sector_without_a_number_is_no_reading_and_one_without_beam_is_refused():
    sensor = scanner(2, (-0.5, 0.5))
    reading = decode_reading(make_scan([math.nan, math.nan, 1.0], -0.4, 0.3), sensor)
    assert reading.faults == {"range": ReadingFault.NOT_FINITE}
    with pytest.raises(
        BadMessageError, match=r"no beam in sectors \[0\] of sensor 'laser': 2 beams from 0.1 rad"
    ):
        decode_reading(make_scan([1.0, 1.0], 0.1, 0.3), sensor)
    with pytest.raises(BadMessageError, match=r"no beam in sectors \[0, 1\]") as refused:
        decode_reading(make_scan([], 0.0, math.nan), sensor)
    assert refused.value.reason is RejectionReason.SIZE


def test_an_array_of_another_size_is_refused():
    message = make_message("vector")
    message.data = [1.0] * 4
    with pytest.raises(BadMessageError, match="data has 4 numbers; sensor 'my_vector' has size 5") as refused:
        decode_reading(message, SENSORS["vector"])
    assert refused.value.reason is RejectionReason.SIZE


@pytest.mark.parametrize("kind", ["imu", "wrench", "range", "scan", "twist"])
def test_a_message_in_another_frame_is_refused_with_both(kind):
    sensor = SENSORS[kind]
    message = fill_message(make_message(kind), sensor, draw_channels(sensor, 0))
    message.header.frame_id = "head"
    words = f"frame_id is 'head'; sensor 'my_{kind}' has the frame 'torso' in the spec"
    with pytest.raises(BadMessageError, match=words) as refused:
        decode_reading(message, sensor)
    assert refused.value.reason is RejectionReason.FRAME
    for frame in ("", "torso", "left/torso"):
        message.header.frame_id = frame
        assert decode_reading(message, sensor).faults == {}


def test_odometry_has_its_twist_in_the_child_frame_and_its_pose_in_any():
    message, sensor = make_message("odometry"), SENSORS["odometry"]
    message.header.frame_id, message.child_frame_id = "map", "torso"
    message.pose.pose.position.x, message.pose.pose.position.z = 5.0, 0.3
    message.twist.twist.linear.x, message.twist.twist.angular.z = 0.4, 0.2
    np.testing.assert_array_equal(
        decode_reading(message, sensor).values, [0.3, 1, 0, 0, 0, 1, 0, 0.4, 0, 0, 0, 0, 0.2]
    )
    message.child_frame_id = "wheel"
    with pytest.raises(BadMessageError, match="child_frame_id is 'wheel'"):
        decode_reading(message, sensor)


def robot(**parts):
    joints = tuple(Joint(name=name, position=(-2.0, 2.0), velocity=5.0, effort=4.0) for name in ("a", "b"))
    motor = Actuator(name="a", joint="a", kind="position", range=(-2.0, 2.0), rate=10.0)
    return RobotSpec(name="two", rate=50.0, model="none.xml", joints=joints, actuators=(motor,), **parts)


def test_a_floating_base_is_received_as_odometry_in_the_order_of_its_channels():
    base = FloatingBase(body="torso", height=0.5, linear_velocity=2.0, angular_velocity=6.0)
    spec = robot(base=base, sensors=(SENSORS["imu"],))
    sensors = list_message_sensors(spec)
    assert list(sensors) == ["base", "my_imu"]
    groups = sensors["base"].make_groups(spec.rate)
    own = [group for group in spec.layout.groups if group.sensor == "base"]
    assert [(len(g.names), g.limits, g.is_rotation) for g in groups] == [
        (len(g.names), g.limits, g.is_rotation) for g in own
    ]
    message = fill_message(make_message("odometry"), sensors["base"], base.make_home_channels())
    np.testing.assert_allclose(
        decode_reading(message, sensors["base"]).values, base.make_home_channels(), atol=1e-12
    )


def test_efforts_are_read_and_bounded_by_what_the_motors_can_do():
    spec = robot(interfaces=("position", "effort"))
    message = SimpleNamespace(name=["b", "a"], position=[0.2, 0.1], velocity=[], effort=[-3.0, 70.0])
    np.testing.assert_array_equal(decode_observation(message, spec), [0.1, 0.2, 70.0, -3.0])
    message.effort[1] = 81.0
    with pytest.raises(BadMessageError, match=r"effort of \['a'\] is far outside what the joint can do"):
        decode_observation(message, spec)
    message.effort = []
    with pytest.raises(BadMessageError, match="export an effort state interface"):
        decode_observation(message, spec)
