"""Sensors of a spec: their channels in the layout, what is refused, and digests that stay."""

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from wm_robot.errors import SpecError
from wm_robot.robots import ROBOTS_FOLDER, load_spec
from wm_robot.safety.limits import compute_plausible_range
from wm_robot.spec import SENSOR_KINDS, RobotSpec, Sensor, make_home_obs

DIGESTS = {
    "arm": "28f44e065dedb45a",
    "ball_in_cup": "a5bcb31afdd457be",
    "cartpole": "11f1d74fafc3da59",
    "cheetah": "70351e0e82fef21c",
    "finger": "87ba84d0a89071f0",
    "hopper": "b103fa675940e61a",
    "quadruped": "9d91985e32e1c530",
    "reacher": "b32d0359d98aadb7",
    "so101": "56734160df3b4f52",
    "walker": "0207b425db80ae42",
}
"""Robot → beginning of its digest before specs had sensors."""
SENSING_DIGESTS = {
    "arm_effort": "03668548626c34ef",
    "arm_wrist": "2fc2585d69b21bda",
    "quadruped": "ddf56fb998d4a813",
    "rover": "e77778f98be0b1c6",
    "walker": "8edd3568d6351a1e",
}
"""The same, of robots that ship with sensors or efforts."""
IMU = {"name": "imu", "kind": "imu", "frame": "torso"}
LIMITED = {"limits": 10.0, "frame": "torso"}
EXAMPLES = {
    "imu": IMU,
    "wrench": {"name": "wrist", "kind": "wrench", **LIMITED},
    "contact": {"name": "foot", "kind": "contact", **LIMITED},
    "range": {"name": "front", "kind": "range", **LIMITED},
    "scan": {"name": "lidar", "kind": "scan", "size": 4, **LIMITED},
    "odometry": {"name": "odom", "kind": "odometry", **LIMITED},
    "pose": {"name": "marker", "kind": "pose", **LIMITED},
    "twist": {"name": "speed", "kind": "twist", **LIMITED},
    "battery": {"name": "battery", "kind": "battery", "nominal": 24},
    "temperature": {"name": "heat", "kind": "temperature"},
    "vector": {"name": "features", "kind": "vector", "size": 3, "limits": 1},
    "scalar": {"name": "load", "kind": "scalar", "limits": 5},
}
"""Kind → a sensor of it."""


def spec(*sensors, **changes):
    values = {
        "name": "cart",
        "rate": 50,
        "model": "cart.xml",
        "joints": [{"name": "arm", "position": [-1, 1], "velocity": 3, "effort": 7}],
        "actuators": [{"name": "arm", "joint": "arm", "kind": "velocity", "range": [-5, 5], "rate": 50}],
    }
    return RobotSpec.from_dict({**values, **({"sensors": list(sensors)} if sensors else {}), **changes})


def test_every_kind_has_its_channels_after_those_of_joints_and_base():
    robot = spec(*EXAMPLES.values(), base={"body": "torso", "linear_velocity": 1, "angular_velocity": 1})
    assert set(EXAMPLES) == set(SENSOR_KINDS)
    layout = robot.layout
    assert layout.sensor_names == ("joints", "base", *(each["name"] for each in EXAMPLES.values()))
    assert layout.names[:2] == ("arm/position", "arm/velocity") and layout.names[2] == "base/height"
    rotation = [f"{column}_axis_{axis}" for column in "xy" for axis in "xyz"]
    expected = {
        "imu": [f"orientation.{part}" for part in rotation]
        + [f"{name}.{axis}" for name in ("angular_velocity", "linear_acceleration") for axis in "xyz"],
        "foot": ["force"],
        "lidar": [f"range.{number}" for number in range(4)],
        "marker": [f"position.{axis}" for axis in "xyz"] + [f"orientation.{part}" for part in rotation],
        "battery": ["voltage"],
        "features": ["value.0", "value.1", "value.2"],
        "load": ["value"],
    }
    for name, ends in expected.items():
        assert layout.names[layout.find_sensor(name)] == tuple(f"{name}/{end}" for end in ends)
    assert len(layout.rotations) == 4 and len(layout.names) == robot.obs_dim == 2 + 13 + 58
    assert layout.find_sensor("joints") == slice(0, 2) and layout.find_sensor("base") == slice(2, 15)
    assert layout.names[layout.find_channels("imu/angular_velocity").stop - 1] == "imu/angular_velocity.z"


def test_the_layout_says_which_sensor_is_required_and_how_old_its_readings_may_be():
    robot = spec(
        {**IMU, "rate": 200, "required": True},
        {**EXAMPLES["scan"], "rate": 5, "delay": 0.1},
        {**EXAMPLES["scalar"], "max_age": 2},
        safety={"max_age_periods": 4},
    )
    layout = robot.layout
    found = {
        name: (layout.is_required[channels].all(), layout.max_ages[channels][0])
        for name in layout.sensor_names
        for channels in [layout.find_sensor(name)]
    }
    assert found == {
        "joints": (True, pytest.approx(4 / 50)),
        "imu": (True, pytest.approx(3 / 50)),
        "lidar": (False, pytest.approx(3 / 5 + 0.1)),
        "load": (False, 2.0),
    }
    assert not layout.is_required[layout.find_sensor("lidar")].any()


def test_fields_are_in_the_order_of_the_kind_and_values_may_differ_by_field():
    fields = ["linear_acceleration", "angular_velocity"]
    imu = spec({**IMU, "fields": fields, "noise": {"linear_acceleration": 0.2}, "limits": 9}).sensors[0]
    assert imu.fields == ("angular_velocity", "linear_acceleration")
    assert imu.noise == {"angular_velocity": 0.0, "linear_acceleration": 0.2}
    assert imu.limits == {"angular_velocity": 9.0, "linear_acceleration": 9.0} and imu.topic == "imu"
    natural = spec(IMU).layout.limits
    assert natural[2:8].tolist() == [1.0] * 6 and natural[-1] == 160


def test_joint_efforts_are_a_third_interface():
    robot = spec(interfaces=["position", "velocity", "effort"])
    assert robot.layout.names == ("arm/position", "arm/velocity", "arm/effort")
    assert robot.layout.limits.tolist() == [1, 3, 7]
    assert compute_plausible_range(robot)[1].tolist() == [3, 60, 140]
    assert make_home_obs(robot)[2] == 0


@pytest.mark.parametrize("robot", sorted(DIGESTS))
def test_a_robot_without_sensors_keeps_its_digest(robot):
    shipped = load_spec(robot)
    plain = shipped if robot not in SENSING_DIGESTS else replace(shipped, sensors=())
    assert plain.compute_digest()[:16] == DIGESTS[robot]
    assert "sensors" not in plain.to_dict()


@pytest.mark.parametrize("robot", sorted(SENSING_DIGESTS))
def test_a_robot_with_sensors_keeps_its_digest(robot):
    assert load_spec(robot).compute_digest()[:16] == SENSING_DIGESTS[robot]


def test_every_shipped_robot_is_among_them():
    assert {*DIGESTS, *SENSING_DIGESTS} == {path.stem for path in ROBOTS_FOLDER.glob("*.yaml")}


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ({"topic": "imu/data"}, False),
        ({"noise": 0.1}, False),
        ({"resolution": 0.1}, False),
        ({"required": True}, False),
        ({"max_age": 0.1}, False),
        ({"limits": 20}, False),
        ({"rate": 200}, True),
        ({"delay": 0.01}, True),
        ({"frame": "head"}, True),
        ({"name": "imu_2"}, True),
        ({"fields": ["orientation"]}, True),
    ],
)
def test_the_digest_has_what_decides_whether_experience_is_compatible(change, is_other):
    before, after = spec(IMU), spec({**IMU, **change})
    assert (before.compute_digest() != after.compute_digest()) == is_other
    assert before.compute_digest() != spec().compute_digest()


def test_a_spec_with_sensors_is_written_and_read_as_it_is():
    robot = spec(*EXAMPLES.values())
    again = RobotSpec.from_dict(robot.to_dict())
    assert again.sensors == robot.sensors and again.compute_digest() == robot.compute_digest()


def test_at_rest_an_accelerometer_measures_what_holds_it_up():
    base = {"body": "torso", "linear_velocity": 1, "angular_velocity": 1, "height": 0.4}
    # The x axis of the base points down.
    base["rotation"] = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    robot = spec(IMU, EXAMPLES["odometry"], EXAMPLES["range"], EXAMPLES["battery"], base=base)
    obs = dict(zip(robot.observation_names, make_home_obs(robot), strict=True))
    assert obs["imu/orientation.x_axis_z"] == pytest.approx(-1)
    assert obs["imu/linear_acceleration.x"] == pytest.approx(-9.81) and obs["odom/height"] == np.float32(0.4)
    assert obs["front/range"] == 5 and obs["battery/voltage"] == 24 and obs["odom/linear_velocity.x"] == 0
    elsewhere = make_home_obs(spec({**IMU, "frame": "head"}))[2:]
    np.testing.assert_allclose(elsewhere, [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9.81], rtol=1e-6)


@pytest.mark.parametrize(
    ("sensor", "sentence"),
    [
        ({**IMU, "name": "joints"}, "a sensor is named 'joints'; it must be a letter, then letters"),
        ({**IMU, "name": "my imu"}, "a sensor is named 'my imu'"),
        ({**IMU, "kind": "imo"}, "sensor 'imu' has kind 'imo'; it must be one of ['imu', 'wrench'"),
        ({**IMU, "unit": "g"}, "Sensor 'imu' has no field ['unit']"),
        ({"name": "imu"}, "Sensor 'imu' lacks ['kind']"),
        ({**IMU, "frame": ""}, "sensor 'imu' of kind 'imu' has no frame; it must be a site or body"),
        ({**IMU, "topic": "imu data"}, "sensor 'imu' has topic 'imu data'; it must be a ROS name"),
        ({**IMU, "fields": ["speed"]}, "has fields ['speed']; it must be some of ['orientation', 'angular_"),
        ({**IMU, "fields": "orientation"}, "sensor 'imu' has fields 'orientation'; it must be a list"),
        ({**IMU, "size": 3}, "sensor 'imu' of kind 'imu' has size 3; it must be left out"),
        ({**IMU, "angle": [0, 1]}, "sensor 'imu' of kind 'imu' has angle [0, 1]; it must be left out"),
        ({**IMU, "rate": -1}, "sensor 'imu' has rate -1; it must be 0 or above"),
        ({**IMU, "delay": "late"}, "delay of Sensor 'imu' is 'late'; it must be a finite number"),
        ({**IMU, "noise": -1}, "sensor 'imu' has noise -1 for 'orientation'; it must be a finite number, 0 or"),
        ({**IMU, "noise": {"force": 1}}, "sensor 'imu' has noise for ['force']; it must be for some of"),
        ({**IMU, "noise": "loud"}, "sensor 'imu' has noise 'loud'; it must be a number, or a number for each fi"),
        ({**IMU, "limits": 0}, "sensor 'imu' has limits 0 for 'orientation'; it must be a finite number, above"),
        ({**IMU, "source": "gyro"}, "sensor 'imu' of kind 'imu' has source 'gyro'; it must be left out"),
        ({**IMU, "nominal": 1}, "sensor 'imu' of kind 'imu' has nominal 1; it must be left out"),
        ({**EXAMPLES["vector"], "size": 0}, "sensor 'features' of kind 'vector' has size 0; it must be a whole"),
        ({**EXAMPLES["vector"], "size": 2.5}, "sensor 'features' has size 2.5; it must be a whole number"),
        ({**EXAMPLES["scan"], "angle": [1, 0]}, "has angle [1, 0]; it must be two directions in rad, low < high"),
        ({"name": "load", "kind": "scalar"}, "of kind 'scalar' has no limits for ['value']; it must be the larg"),
        ({"name": "battery", "kind": "battery"}, "of kind 'battery' has nominal 0; it must be its voltage"),
        ({**IMU, "name": "arm"}, "sensors ['arm'] are named as joints; it must be named otherwise"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_sensor_the_value_and_what_was_expected(sensor, sentence):
    with pytest.raises(SpecError, match=re.escape(sentence)):
        spec(sensor)


def test_sensors_share_no_name_and_no_topic_of_two_messages():
    with pytest.raises(SpecError, match="named \\['imu', 'imu'\\]; it must be unique"):
        spec(IMU, IMU)
    with pytest.raises(SpecError, match="sensor 'load' of std_msgs/Float64 has topic 'imu', as sensor 'imu'"):
        spec(IMU, {**EXAMPLES["scalar"], "topic": "imu"})
    spec(IMU, {**IMU, "name": "imu_again", "topic": "imu"})
    with pytest.raises(SpecError, match="sensors of robot 'cart' is 3; it must be a list"):
        spec(sensors=3)


PAGE = (Path(__file__).parents[2] / "docs/spec.md").read_text().partition("## Sensors")[2]


def test_the_page_of_the_spec_has_every_kind_with_its_message_and_fields():
    rows = re.findall(r"^\| `(\w+)` \| (\w+/\w+) \| (.*) \|$", PAGE, re.M)
    found = {name: (message, re.findall(r"`(\w+)` \(([^,)]+)", cells)) for name, message, cells in rows}
    sensors = {name: spec(example).sensors[0] for name, example in EXAMPLES.items()}
    assert found == {
        name: (
            kind.message,
            [
                (each, "`size`" if f.is_sized else str(sensors[name].count_values(each)))
                for each, f in kind.fields.items()
            ],
        )
        for name, kind in SENSOR_KINDS.items()
    }
    units = {name: field.unit for kind in SENSOR_KINDS.values() for name, field in kind.fields.items()}
    for unit in set(units.values()) - {"1", ""}:
        assert re.search(rf", {re.escape(unit)}\)", PAGE), unit


def test_the_page_of_the_spec_names_every_field_of_a_sensor_and_its_example_is_one():
    fields_named = set(
        re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.M)))
    )
    assert {each.name for each in fields(Sensor)} <= fields_named
    example = yaml.safe_load(PAGE.partition("```yaml")[2].partition("```")[0])
    names = spec(*example["sensors"]).layout.sensor_names
    assert names == ("joints", "imu", "wrist", "lidar", "battery")
