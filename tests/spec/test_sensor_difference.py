"""The first difference between the sensors of a spec and those that a base or an episode has."""

import json
from dataclasses import replace

import pytest

from tests.streams.test_observation_assembler import BATTERY, IMU, ODOMETRY, make_spec
from wm_robot.spec import FloatingBase, Sensor
from wm_robot.spec.sensor_difference import describe_sensor_difference, list_sensor_values

BASE = FloatingBase(body="torso", linear_velocity=2.0, angular_velocity=6.0)
GYRO = Sensor(name="imu", kind="imu", frame="torso", rate=500.0, fields=("angular_velocity",))
SPEC = make_spec(IMU, ODOMETRY, base=BASE)
THEIRS = json.loads(json.dumps(list_sensor_values(SPEC)))
"""As a file has them."""


def test_equal_sensors_have_no_difference_whatever_their_topic_or_noise():
    other = replace(IMU, topic="imu/data", noise={"angular_velocity": 0.1}, required=False, max_age=1.0)
    for sensors in ((IMU, ODOMETRY), (other, ODOMETRY)):
        assert describe_sensor_difference(THEIRS, make_spec(*sensors, base=BASE), "the base") == ""
    assert describe_sensor_difference((), make_spec(), "the base") == ""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (make_spec(ODOMETRY, base=BASE), "sensor 'imu' is in the base and not in the spec"),
        (make_spec(), "sensor 'base' is in the base and not in the spec"),
        (make_spec(IMU, ODOMETRY, BATTERY, base=BASE), "sensor 'battery' is in the spec and not in the base"),
        (
            make_spec(IMU, ODOMETRY, base=replace(BASE, body="hip")),
            "sensor 'base' has body 'torso' in the base and 'hip' in the spec",
        ),
        (
            make_spec(IMU, ODOMETRY, base=BASE, interfaces=("position", "velocity", "effort")),
            "sensor 'joints' has interfaces ['position', 'velocity'] in the base and "
            "['position', 'velocity', 'effort'] in the spec",
        ),
        (
            make_spec(GYRO, ODOMETRY, base=BASE),
            "sensor 'imu' has fields ['angular_velocity', 'linear_acceleration'] in the base and "
            "['angular_velocity'] in the spec",
        ),
        (
            make_spec(ODOMETRY, IMU, base=BASE),
            "the sensors are ['joints', 'base', 'imu', 'odom'] in the base and "
            "['joints', 'base', 'odom', 'imu'] in the spec",
        ),
    ],
)
def test_the_first_difference_is_named(spec, expected):
    assert describe_sensor_difference(THEIRS, spec, "the base") == expected
