import json
from dataclasses import replace

import numpy as np
import pytest

from tests.sim.robots import ROBOTS
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot_sim.world_ranges import FAULTS, WorldRanges
from wm_robot_sim.worlds import DomainRandomization, World

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_nominal_vector_is_zero_and_every_number_has_a_name(robot):
    distribution = DomainRandomization(load_spec(robot))
    vector = distribution.make_nominal_world().to_vector()
    assert vector.dtype == np.float32 and not vector.any()
    assert len(set(distribution.parameter_names)) == len(distribution.parameter_names) == len(vector)


def test_a_usual_deviation_is_about_one():
    distribution = DomainRandomization(load_spec("arm"))
    rng = np.random.default_rng(0)
    spread = np.std([distribution.sample(rng).to_vector() for _ in range(500)], axis=0)
    assert (0.4 < spread).all() and (spread < 2).all(), dict(
        zip(distribution.parameter_names, spread, strict=True)
    )


def test_names_point_at_the_right_numbers():
    distribution = DomainRandomization(load_spec("arm"))
    value = dict(zip(
        distribution.parameter_names,
        distribution.make_loaded_world(payload=0.4, weak_joint="elbow_pitch", gain=0.35).to_vector(),
        strict=True,
    ))  # fmt: skip
    assert {name for name, x in value.items() if x} == {
        "elbow_pitch/drive",
        "elbow_pitch/stiffness",
        "payload",
    }
    assert value["payload"] == pytest.approx(2) and value["elbow_pitch/drive"] == pytest.approx(-1)


def test_a_reversed_motor_is_as_stiff_as_a_healthy_one():
    distribution = DomainRandomization(load_spec("arm"))
    world = replace(distribution.make_nominal_world(), gain=np.array([1.0, 1, -1, 1, 1, 1]))
    changed = {name for name, x in zip(distribution.parameter_names, world.to_vector(), strict=True) if x}
    assert changed == {"elbow_pitch/drive"}


def test_a_world_survives_json():
    rng = np.random.default_rng(3)
    for world in (DomainRandomization(load_spec("arm")).sample(rng) for _ in range(10)):
        back = World.from_dict(json.loads(json.dumps(world.to_dict())))
        assert back.to_dict() == world.to_dict()
        np.testing.assert_array_equal(back.to_vector(), world.to_vector())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"payload": -3.0}, "world.payload is -3.0; it must be a number, not below 0"),
        ({"payload": float("inf")}, "world.payload is inf"),
        ({"delay": "long"}, "world.delay is 'long'; it must be a whole number"),
        ({"delay": 2.5}, "world.delay is 2.5; it must be a whole number"),
        ({"payload": True}, "world.payload is True; it must be a number"),
        ({"tilt": np.zeros(3)}, "world.tilt is .*; it must be 2 finite numbers"),
        ({"friction": np.full(6, np.nan)}, "world.friction is"),
    ],
)
def test_a_world_that_cannot_be_is_refused(change, words):
    with pytest.raises(SpecError, match=words):
        replace(DomainRandomization(load_spec("arm")).make_nominal_world(), **change)


def test_a_world_of_another_robot_is_refused():
    arm, reacher = load_spec("arm"), load_spec("reacher")
    with pytest.raises(SpecError, match=r"has \(6, 6\) motors and joints; robot 'reacher' has \(2, 2\)"):
        DomainRandomization(arm).make_nominal_world().check_sizes(reacher)


def test_same_seed_same_worlds():
    distribution = DomainRandomization(load_spec("arm"))
    one, two = (distribution.sample(np.random.default_rng(7)).to_dict() for _ in range(2))
    assert one == two


def test_faults_come_as_often_as_declared():
    distribution = DomainRandomization(load_spec("arm"))
    rng = np.random.default_rng(0)
    faults = [[f for f in distribution.sample(rng).fault if f != "ok"] for _ in range(2000)]
    counts = np.bincount([len(f) for f in faults], minlength=3) / len(faults)
    np.testing.assert_allclose(counts, distribution.ranges.fault_counts, atol=0.04)
    kinds = [kind for f in faults for kind in f]
    for kind in FAULTS:
        assert kinds.count(kind) / len(kinds) == pytest.approx(
            distribution.ranges.faults[kind]["chance"], abs=0.04
        )


def test_an_unknown_range_is_refused():
    arm = load_spec("arm")
    with pytest.raises(SpecError, match="'paylod'"):
        WorldRanges.from_spec(replace(arm, world={"paylod": [0, 1]}))
    with pytest.raises(SpecError, match="no motor on joint 'elbow'"):
        DomainRandomization(arm).make_loaded_world(payload=0.1, weak_joint="elbow", gain=0.5)


WEAK = {"weak": {"chance": 1.0, "range": [0.2, 0.4]}}


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"gain": [1.5, 0.5]}, r"world.gain is \(1.5, 0.5\); it must be two numbers, low and high, above 0"),
        ({"gain": 0.5}, "world.gain is 0.5; it must be two numbers"),
        ({"gain": None}, "world.gain is None; it must be two numbers"),
        ({"gain": [0.5]}, r"world.gain is \(0.5,\); it must be two numbers"),
        ({"gain": [0.5, 1, 2]}, r"world.gain is \(0.5, 1, 2\); it must be two numbers"),
        ({"gain": {"low": 0.5}}, "world.gain is {'low': 0.5}; it must be two numbers"),
        ({"gain": ["0.7", 1.4]}, r"world.gain is \('0.7', 1.4\); .* YAML reads it as text: write it without"),
        ({"gain": [True, 2]}, r"world.gain is \(True, 2\); it must be two numbers"),
        ({"gain": [0.5, float("nan")]}, r"world.gain is \(0.5, nan\)"),
        ({"gain": [0.5, float("inf")]}, r"world.gain is \(0.5, inf\)"),
        ({"gain": [10**400, 10**401]}, "world.gain is"),
        ({"mass": [0, 1]}, r"world.mass is \(0, 1\); it must be two numbers, low and high, above 0"),
        (
            {"payload": [-0.1, 1.0]},
            r"world.payload is \(-0.1, 1.0\); it must be two numbers, low and high, from 0",
        ),
        ({"delay": [5, 2]}, r"world.delay is \(5, 2\)"),
        ({"delay": [0, 2.5]}, r"world.delay is \(0, 2.5\); it must be two whole numbers"),
        ({"delay": 3}, "world.delay is 3; it must be two whole numbers"),
        ({"sensor_delay": 1.5}, "world.sensor_delay is 1.5; it must be a whole number, not below 0"),
        (
            {"payload_chance": 1.5},
            "world.payload_chance is 1.5; it must be a number, not below 0 and not above 1",
        ),
        ({"payload_body": 3}, "world.payload_body is 3; it must be the name of a body"),
        ({"bias": "0.1"}, "world.bias is '0.1'; it must be a number, not below 0. YAML reads it as text"),
        ({"bias": -0.1}, "world.bias is -0.1; it must be a number, not below 0"),
        ({"bias": [0.1]}, r"world.bias is \(0.1,\); it must be a number"),
        ({"tilt": float("nan")}, "world.tilt is nan; it must be a number"),
        ({"position_noise": None}, "world.position_noise is None; it must be a number"),
        ({"velocity_noise": -1}, "world.velocity_noise is -1; it must be a number, not below 0"),
        ({"timestep": -0.002}, "world.timestep is -0.002; it must be a number, not below 0"),
        ({"timestep": "2e-3"}, "world.timestep is '2e-3'; .* 1e-3 as 1.0e-3"),
        ({"clearance": "low"}, "world.clearance is 'low'; it must be a number"),
        ({"clearance": float("inf")}, "world.clearance is inf; it must be a number"),
        (
            {"pose_center": [0.0, 0.1]},
            "world.pose_center is .*; it must have 6 numbers, one for each of .*base_yaw",
        ),
        ({"pose_spread": [0.1]}, "world.pose_spread is .*; it must have 6 numbers"),
        ({"pose_spread": 0.1}, "world.pose_spread is 0.1; it must be a list of numbers"),
        ({"pose_spread": [0.1] * 5 + ["1"]}, r"world.pose_spread\[5\] is '1'; it must be a number"),
        ({"pose_spread": [-0.1] * 6}, r"world.pose_spread\[0\] is -0.1; it must be a number, not below 0"),
        (
            {"pose_center": [0, 2.0, 0, 0, 0, 0]},
            r"world.pose_center of 'shoulder_pitch' is 2.0; it must be in its range \[-1.4, 1.4\]",
        ),
        ({"fault_counts": 0.5}, "world.fault_counts is 0.5; it must be a list of numbers"),
        (
            {"fault_counts": [1.5, -0.5]},
            r"world.fault_counts\[0\] is 1.5; it must be a number, not below 0 and",
        ),
        ({"fault_counts": [0.5, 0.4]}, r"world.fault_counts is \(0.5, 0.4\); it must sum to 1"),
        ({"fault_counts": [0.5, 0.5]}, "world.faults has no kind; add one"),
        (
            {"fault_counts": [0.5, *[0.0] * 6, 0.5], "faults": WEAK},
            "world.fault_counts is .*, up to 7 faulty motors; the robot has 6. Give at most 7 chances",
        ),
        ({"faults": WEAK}, r"world.faults has \['weak'\], and none occurs, because world.fault_counts is"),
        ({"faults": None}, "world.faults is None; it must be a mapping"),
        ({"faults": ["weak"]}, "world.faults is .*; it must be a mapping"),
        ({"faults": {"week": {}}}, r"world.faults has \['week'\]; it must be some of"),
        ({"faults": {"weak": 0.3}}, "world.faults.weak is 0.3; it must be such as {chance: 0.5"),
        ({"faults": {"weak": {"chance": 1, "rang": [0, 1]}}}, "world.faults.weak is .*; it must be such as"),
        ({"faults": {"weak": {"chance": 1.0, "range": [0.4, 0.1]}}}, "world.faults.weak.range is .0.4, 0.1."),
        ({"faults": {"weak": {"chance": 1.0}}}, "world.faults.weak.range is None; it must be two numbers"),
        (
            {"faults": {"weak": {"range": [0.1, 0.4]}}},
            "world.faults.weak.chance is None; it must be a number",
        ),
        (
            {"fault_counts": [0, 1], "faults": {"weak": {"chance": 0, "range": [0.1, 0.4]}}},
            "world.faults has chances of 0 only",
        ),
        ({"pay load": [0, 1]}, r"world has no field \['pay load'\]; Did you mean 'payload'\? It has"),
    ],
)
def test_a_range_that_is_none_is_refused(ranges, words):
    with pytest.raises(SpecError, match=f"robot 'arm': .*{words}"):
        DomainRandomization(replace(load_spec("arm"), world=ranges))


def test_a_world_section_without_values_has_no_variation():
    worlds = DomainRandomization(replace(load_spec("arm"), world={}))
    assert worlds.sample(np.random.default_rng(0)).to_dict() == worlds.make_nominal_world().to_dict()


def test_an_unknown_robot_names_those_there_are():
    with pytest.raises(SpecError) as caught:
        load_spec("hexapod")
    assert all(f"'{name}'" in str(caught.value) for name in ROBOTS)
