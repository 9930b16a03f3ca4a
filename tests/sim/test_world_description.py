"""The card of a base says in words from which worlds it learned."""

from dataclasses import replace

import pytest

from tests.sim.robots import ROBOTS
from tests.sim.small_robots import make_leg
from wm_robot.robots import load_spec
from wm_robot_sim.world_description import NOMINAL_WORLD, describe_worlds

pytestmark = pytest.mark.sim

FULL = {"joint": 'frictionloss="0.1"', "actuator": 'forcerange="-20 20"'}
ENTRIES = {
    "body/shin/mass": ({"factor": [0.8, 1.2]}, "mass of shin: 0.8 to 1.2 times"),
    "joint/*/damping": (
        {"factor": [0.5, 2.0], "log": True},
        "damping of joints hip, knee and toe: each 0.5 to 2 times, log-uniform",
    ),
    "joint/toe/range": ({"shift": [-0.01, 0.01]}, "shift of the range of joint toe: -0.01 to 0.01 m"),
    "actuator/knee/delay": ({"seconds": [0.0, 0.04]}, "delay of actuator knee: 0 to 0.04 s"),
    "actuator/hip/offset": (
        {"shift": [0.0, 0.1]},
        "offset of the command of actuator hip: 0 to 0.1 rad",
    ),
    "payload/foot/mass": (
        {"kg": [0.0, 0.3], "chance": 0.7},
        "payload at foot: 0 to 0.3 kg, in 70 % of the worlds",
    ),
    "option/gravity": ({"factor": [0.9, 1.1]}, "gravity: 0.9 to 1.1 times"),
    "sensor/knee/position_bias": (
        {"shift": [-0.02, 0.02]},
        "bias of the position sensor of joint knee: -0.02 to 0.02 rad",
    ),
    "fault/*/weak": (
        {"factor": [0.2, 0.4], "chance": 0.1},
        "fault weak of actuators hip, knee and toe: gain 0.2 to 0.4 times, each in 10 % of the worlds",
    ),
    "fault/hip/dead": ({"chance": 0.05}, "fault dead of actuator hip: in 5 % of the worlds"),
}


def test_each_entry_has_its_sentence(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize={key: value for key, (value, _) in ENTRIES.items()})
    assert sorted(describe_worlds(leg)) == sorted(words for _, words in ENTRIES.values())


def test_a_shift_of_gravity_has_a_sentence_for_each_axis_that_varies(tmp_path):
    leg = make_leg(tmp_path, randomize={"option/gravity": {"shift": [[-0.5, 0.5], [0, 0], [-1, 0]]}})
    assert describe_worlds(leg) == [
        "gravity added along x: -0.5 to 0.5 m/s²",
        "gravity added along z: -1 to 0 m/s²",
    ]


def test_the_short_names_have_their_sentences():
    found = describe_worlds(load_spec("arm"))
    assert {
        "payload at payload: 0 to 0.5 kg, in 70 % of the worlds",
        "gain of each actuator: 0.6 to 1.5 times, log-uniform",
        "delay of the commands: 0 to 10 physics steps",
        "number of faulty actuators: 15 % with 0, 45 % with 1, 40 % with 2",
        "fault reversed: 45 % of the faults",
        "fault sticky: dry friction 8 to 20 times, 15 % of the faults",
    } <= set(found)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robot_without_ranges_is_nominal(robot):
    spec = replace(load_spec(robot), world={}, randomize={})
    assert describe_worlds(spec) == [NOMINAL_WORLD]
