"""What is told of states that cannot be used."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from wm_robot.spec import Actuator, Joint, RobotSpec
from wm_robot.streams.joint_message import decode_observation
from wm_robot.streams.rejection import BadMessageError, RejectionReason

NAMES = ["knee", "elbow"]
SPEC = RobotSpec(
    name="two",
    rate=50.0,
    model="none.xml",
    joints=tuple(Joint(name=name, position=(-2.0, 2.0), velocity=5.0, effort=5.0) for name in NAMES),
    actuators=(Actuator(name="knee", joint="knee", kind="position", range=(-2.0, 2.0), rate=10.0),),
)
MEND = (
    "The robot's spec observes velocity: let its hardware export a velocity state interface for each joint, and the "
    "joint_state_broadcaster publish them"
)


def message(velocity):
    return SimpleNamespace(name=NAMES, position=[0.1, 0.2], velocity=velocity, effort=[])


def test_states_are_read_in_the_order_of_the_spec():
    np.testing.assert_array_equal(decode_observation(message([0.3, 0.4]), SPEC), [0.1, 0.2, 0.3, 0.4])


def test_efforts_are_read_where_the_spec_observes_them():
    spec, told = replace(SPEC, interfaces=("position", "effort")), message([])
    told.effort = [60.0, -7.0]
    np.testing.assert_array_equal(decode_observation(told, spec), [0.1, 0.2, 60.0, -7.0])
    told.effort = [60.0, -101.0]
    with pytest.raises(BadMessageError, match="effort of \\['elbow'\\] is far outside"):
        decode_observation(told, spec)
    told.effort = []
    with pytest.raises(BadMessageError, match="effort has 0 numbers .* export an effort state interface"):
        decode_observation(told, spec)


@pytest.mark.parametrize(
    ("velocity", "reason", "words"),
    [
        (
            [math.nan, math.nan],
            RejectionReason.NOT_FINITE,
            f"velocity is not finite for ['knee', 'elbow']. {MEND}",
        ),
        ([math.nan, 0.1], RejectionReason.NOT_FINITE, f"velocity is not finite for ['knee']. {MEND}"),
        ([], RejectionReason.SIZE, f"velocity has 0 numbers for 2 names. {MEND}"),
        ([0.1, math.inf], RejectionReason.NOT_FINITE, "velocity is not finite for ['elbow']"),
        ([0.1], RejectionReason.SIZE, "velocity has 1 numbers for 2 names"),
    ],
)
def test_where_the_hardware_knows_no_velocity_it_is_told_what_to_add(velocity, reason, words):
    with pytest.raises(BadMessageError) as refused:
        decode_observation(message(velocity), SPEC)
    assert (refused.value.reason, str(refused.value)) == (reason, words)


def test_a_position_that_counts_turns_becomes_an_angle_where_the_joint_wraps():
    wheel = Joint(name="knee", wraps=True, velocity=5.0, effort=5.0)
    motor = Actuator(name="knee", joint="knee", kind="velocity", range=(-2.0, 2.0), rate=10.0)
    spec = replace(SPEC, joints=(wheel, SPEC.joints[1]), actuators=(motor,))
    told = SimpleNamespace(name=NAMES, position=[20 * math.pi + 0.5, 0.2], velocity=[0.3, 0.4], effort=[])
    np.testing.assert_allclose(decode_observation(told, spec), [0.5, 0.2, 0.3, 0.4])
    with pytest.raises(BadMessageError):
        decode_observation(told, SPEC)
