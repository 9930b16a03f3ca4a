"""A range or a world that the model cannot show is refused, with what the model lacks and the next step."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.sim.robots import ROBOTS
from tests.sim.small_robots import make_hinge, make_leg
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.plant import Plant
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.worlds import DomainRandomization

pytestmark = pytest.mark.sim

CAPSULE = '<geom type="capsule" size="0.02" fromto="0 0 0 0.2 0 0" mass="0.3"/>'
HINGE = '<joint name="swing" axis="0 1 0" range="-2 2" {}/>' + CAPSULE
SERVO = '<position name="swing" joint="swing" kp="20" kv="1" ctrlrange="-2 2" {}/>'
FULL = {"joint": 'frictionloss="0.1"', "actuator": 'forcerange="-20 20"'}


def fault(kind: str, low: float, high: float) -> dict[str, object]:
    return {"fault_counts": [0.5, 0.5], "faults": {kind: {"chance": 1.0, "range": [low, high]}}}


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_shipped_robot_shows_all_that_it_declares(robot):
    spec = load_spec(robot)
    Plant(spec, compile_model(spec))


def test_a_model_that_has_everything_shows_everything(tmp_path):
    world = {
        "payload": [0.0, 0.5], "payload_body": "foot", "mass": [0.8, 1.2], "gain": [0.7, 1.4],
        "torque": [0.8, 1.2], "friction": [0.5, 2.0], "damping": [0.5, 2.0], "tilt": 0.05, "bias": 0.01,
        "fault_counts": [0.4, 0.2, 0.2, 0.2],
        "faults": {kind: {"chance": 0.2, "range": [0.5, 1.0]} for kind in ("weak", "limited", "reversed", "sticky")},
    }  # fmt: skip
    leg = make_leg(tmp_path, **FULL, world=world)
    rng = np.random.default_rng(0)
    worlds = [DomainRandomization(leg).sample(rng) for _ in range(20)]
    sim = BatchSim(leg, worlds, seed=0)
    plant = sim.plant
    for row, drawn in enumerate(worlds):
        model = sim._models[row]
        assert model.body_mass.sum() != plant.model.body_mass.sum()
        np.testing.assert_allclose(model.dof_frictionloss, 0.1 * drawn.friction)
        np.testing.assert_allclose(model.actuator_forcerange[:, 1], 20 * drawn.torque)


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (
            {"payload": [0.1, 0.5]},
            "world.payload is (0.1, 0.5), and no body carries it. "
            "Set world.payload_body to one of 'thigh', 'shin', 'foot'",
        ),
        (
            {"payload": [0, 1], "payload_body": "hand"},
            "world.payload_body is 'hand', and the model has no moving body of that name. Set it to one of 'thigh'",
        ),
        (
            {"friction": [0.5, 2]},
            "world.friction is (0.5, 2), and the model has no frictionloss for joints 'hip', 'knee', 'toe'. "
            "Give it one there, or remove world.friction",
        ),
        (
            {"torque": [0.5, 2]},
            "world.torque is (0.5, 2), and the model has no forcerange for actuators 'hip', 'knee', 'toe'",
        ),
        (
            fault("limited", 0.3, 0.6),
            "world.faults.limited is {'chance': 1.0, 'range': [0.3, 0.6]}, and the model has no forcerange",
        ),
        (
            fault("sticky", 3, 6),
            "world.faults.sticky is {'chance': 1.0, 'range': [3, 6]}, and the model has no frictionloss",
        ),
        ({"sensor_delay": 5}, "world.sensor_delay is 5 physics steps, and a control period has 5"),
    ],
)
def test_a_range_without_effect_is_refused(tmp_path, world, words):
    with pytest.raises(SpecError, match=re.escape(words)) as refusal:
        SimRobot(make_leg(tmp_path, world=world), seed=0)
    assert str(refusal.value).startswith("robot 'leg' declares dynamics that leg.xml cannot show: ")


def test_all_contradictions_are_in_one_short_message(tmp_path):
    world = {"payload": [0, 1], "friction": [0.5, 2], "torque": [0.5, 2], "sensor_delay": 9}
    with pytest.raises(SpecError) as refusal:
        SimRobot(make_leg(tmp_path, world=world), seed=0)
    message = str(refusal.value)
    assert all(f"world.{name} is" in message for name in world)
    assert len(message.splitlines()) == len(world)
    many = {**world, **fault("limited", 0.3, 0.6), "bias": 0.1, "position_noise": 0.1, "velocity_noise": 0.1}
    with pytest.raises(SpecError, match=r"and \d more$") as refusal:
        SimRobot(make_leg(tmp_path, world=many, interfaces=["velocity"]), seed=0)
    assert len(str(refusal.value).splitlines()) <= 7


NO_GRAVITY = '<option gravity="0 0 0"/>', '<option><flag gravity="disable"/></option>'


@pytest.mark.parametrize(
    ("options", "joint", "world", "words"),
    [
        (NO_GRAVITY[0], "", {"tilt": 0.05}, "world.tilt is 0.05, and the model has no gravity"),
        (NO_GRAVITY[1], "", {"tilt": 0.05}, "world.tilt is 0.05, and the model has no gravity"),
        (
            "",
            "",
            {"damping": [0.5, 2]},
            "world.damping is (0.5, 2), and the model has no damping for joint 'swing'",
        ),
        (
            '<option><flag frictionloss="disable"/></option>',
            'frictionloss="1"',
            {"friction": [0.5, 2]},
            "no frictionloss for joint 'swing'",
        ),
        (
            "",
            "",
            {"payload": [0, 1], "payload_body": "base"},
            "world.payload_body is 'base', and the model has no moving body",
        ),
    ],
)
def test_a_model_that_lacks_a_quantity_is_named_with_it(tmp_path, options, joint, world, words):
    spec = make_hinge(tmp_path, HINGE.format(joint), SERVO.format(""), options=options, world=world)
    with pytest.raises(SpecError, match=re.escape(words)):
        SimRobot(spec, seed=0)


ONE_SIDED = [{"name": "swing", "joint": "swing", "kind": "effort", "range": [0.0, 1.0], "rate": 6.0}]
MUSCLE = '<muscle name="swing" joint="swing" ctrlrange="0 1"/>'
WITHOUT_GAIN = '<general name="swing" joint="swing" gainprm="0" ctrlrange="0 1"/>'
STRONG = '<motor name="swing" joint="swing" ctrlrange="0 1" forcerange="-5 5"/>'


@pytest.mark.parametrize(
    ("actuator", "world", "words"),
    [
        (
            MUSCLE,
            {"gain": [0.5, 2]},
            "world.gain is (0.5, 2), and the model has no gain that a factor scales",
        ),
        (WITHOUT_GAIN, {"gain": [0.5, 2]}, "no gain that a factor scales for actuator 'swing'"),
        (WITHOUT_GAIN, fault("weak", 0.1, 0.2), "world.faults.weak is"),
        (STRONG, {"torque": [0.5, 2]}, "a forcerange that gain times ctrlrange never reaches"),
    ],
)
def test_an_actuator_that_a_factor_does_not_scale_is_refused(tmp_path, actuator, world, words):
    spec = make_hinge(tmp_path, HINGE.format(""), actuator, actuators=ONE_SIDED, world=world)
    with pytest.raises(SpecError, match=re.escape(words)):
        SimRobot(spec, seed=0)


def test_a_motor_of_one_sign_cannot_be_reversed(tmp_path):
    motor = '<motor name="swing" joint="swing" ctrlrange="0 1"/>'
    spec = make_hinge(
        tmp_path, HINGE.format(""), motor, actuators=ONE_SIDED, world=fault("reversed", 1.0, 1.0)
    )
    with pytest.raises(SpecError, match=r"actuator 'swing' has range \(0.0, 1.0\), of one sign"):
        SimRobot(spec, seed=0)


def test_one_mass_cannot_have_the_factors_of_two_joints(tmp_path):
    body = '<joint name="turn" axis="1 0 0"/>' + HINGE.format("")
    joints = [
        {"name": name, "position": [-2.0, 2.0], "velocity": 10.0, "effort": 10.0}
        for name in ("swing", "turn")
    ]
    spec = make_hinge(tmp_path, body, SERVO.format(""), joints=joints, world={"mass": [0.8, 1.2]})
    with pytest.raises(SpecError, match="one link, with one mass, for joints 'swing', 'turn'"):
        SimRobot(spec, seed=0)
    SimRobot(replace(spec, world={}), seed=0)


@pytest.mark.parametrize(
    ("interface", "world", "words"),
    [
        ("velocity", {"bias": 0.1}, "world.bias is 0.1, and the robot does not observe position"),
        ("velocity", {"position_noise": 0.1}, "world.position_noise is 0.1, and the robot does not observe"),
        ("position", {"velocity_noise": 0.1}, "world.velocity_noise is 0.1, and the robot does not observe"),
    ],
)
def test_a_sensor_that_is_not_observed_has_no_error(tmp_path, interface, world, words):
    with pytest.raises(SpecError, match=re.escape(words)):
        SimRobot(make_leg(tmp_path, world=world, interfaces=[interface]), seed=0)


def test_a_clearance_that_the_center_pose_does_not_keep_is_refused(tmp_path):
    chain = [{"joint": "hip", "origin": [0.0, 0.0, 0.6], "axis": [0, 1, 0]}]
    leg = make_leg(tmp_path, chain=chain, tip=[0.0, 0.0, -0.25], world={"clearance": 0.5})
    with pytest.raises(
        SpecError, match=r"world.clearance is 0.5 m, and at the middle of all ranges the gripper is 0.350 m"
    ):
        SimRobot(leg, seed=0)
    SimRobot(replace(leg, world={"clearance": 0.3}), seed=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"payload": 0.2}, "world.payload is 0.2, and robot 'leg' has no body that carries it"),
        (
            {"friction": np.array([1.0, 2.0, 1.0])},
            "world.friction of joint 'knee' is 2, and leg.xml has no frictionloss for it. Give it one there",
        ),
        (
            {"torque": np.array([1.0, 1.0, 0.5])},
            "world.torque of actuator 'toe' is 0.5, and leg.xml has no forcerange for it",
        ),
    ],
)
def test_a_world_without_effect_is_refused(tmp_path, change, words):
    robot = SimRobot(make_leg(tmp_path), seed=0)
    with pytest.raises(SpecError, match=re.escape(words)):
        robot.set_world(replace(robot.world, **change))
