import math
from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PointStamped
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState

from wm_robot.robots import load_spec
from wm_robot.spec import Task
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot_ros.middleware import convert

SPEC = load_spec("arm")
STAMP = 1_700_000_000_123_456_789
OBS = np.arange(1, 13, dtype=np.float32) / 10
ACTION = -np.arange(1, 7, dtype=np.float32) / 10


def sensed(**changes):
    """A good message whose every number is recognisable, and what is changed in it."""
    message = convert.make_observation_message(OBS, SPEC, STAMP)
    for field, value in changes.items():
        setattr(message, field, value)
    return message


def reason(call, *arguments):
    with pytest.raises(BadMessageError) as refused:
        call(*arguments)
    return refused.value.reason, str(refused.value)


def test_an_observation_survives_the_journey():
    back = convert.decode_observation_message(sensed(), SPEC)
    np.testing.assert_array_equal(back.values, OBS)
    assert back.values.dtype == np.float32
    assert convert.read_stamp(sensed()) == STAMP
    assert back.stamp == pytest.approx(STAMP / 1e9)


def test_joint_efforts_survive_the_journey():
    spec = replace(SPEC, interfaces=("position", "velocity", "effort"))
    obs = np.concatenate([OBS, OBS[:6] - 1])
    message = convert.make_observation_message(obs, spec, STAMP)
    np.testing.assert_array_equal(np.float32(message.effort), obs[12:])
    np.testing.assert_array_equal(convert.decode_observation_message(message, spec).values, obs)


def test_an_action_survives_the_journey():
    message = convert.make_action_message(ACTION, SPEC, STAMP)
    assert list(message.name) == list(SPEC.action_names)
    np.testing.assert_array_equal(convert.decode_action_message(message, SPEC), ACTION)


def test_joints_are_found_by_name_and_never_by_place():
    straight = sensed()
    turned = sensed(
        name=straight.name[::-1], position=straight.position[::-1], velocity=straight.velocity[::-1]
    )
    np.testing.assert_array_equal(convert.decode_observation_message(turned, SPEC).values, OBS)


def test_joints_of_somebody_else_are_ignored_in_what_is_sensed():
    more = sensed()
    more.name = ["finger", *more.name]
    more.position = [9.0, *more.position]
    more.velocity = [9.0, *more.velocity]
    np.testing.assert_array_equal(convert.decode_observation_message(more, SPEC).values, OBS)


def test_an_unknown_actuator_is_refused_in_what_is_commanded():
    message = convert.make_action_message(ACTION, SPEC, STAMP)
    message.name = [*message.name, "finger"]
    message.position = [*message.position, 0.0]
    assert reason(convert.decode_action_message, message, SPEC) == (
        RejectionReason.NAMES,
        f"actuators ['finger'] are unknown; known are {SPEC.action_names}",
    )


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({"name": list(SPEC.joint_names[:-1])}, RejectionReason.NAMES, "joints ['wrist_roll'] are missing"),
        ({"name": ["base_yaw"] * 6}, RejectionReason.NAMES, "joints ['base_yaw'] are listed twice"),
        ({"name": []}, RejectionReason.NAMES, "are missing; the message has []"),
        ({"position": [0.0] * 5}, RejectionReason.SIZE, "position has 5 numbers for 6 names"),
        ({"velocity": []}, RejectionReason.SIZE, "velocity has 0 numbers for 6 names"),
        ({"position": [0.0] * 7}, RejectionReason.SIZE, "position has 7 numbers for 6 names"),
        (
            {"position": [0, 0, math.nan, 0, 0, 0]},
            RejectionReason.NOT_FINITE,
            "position is not finite for ['elbow_pitch']",
        ),
        (
            {"velocity": [math.inf, 0, 0, 0, 0, -math.inf]},
            RejectionReason.NOT_FINITE,
            "['base_yaw', 'wrist_roll']",
        ),
        (
            {"position": [1e300, 0, 0, 0, 0, 0]},
            RejectionReason.NOT_FINITE,
            "position is not finite for ['base_yaw']",
        ),
    ],
)
def test_a_bad_message_is_refused_with_its_reason(changes, expected, words):
    changes = {k: [float(x) for x in v] if k != "name" else v for k, v in changes.items()}
    if "name" in changes and len(changes["name"]) < 6:
        count = len(changes["name"])
        changes |= {"position": [0.0] * count, "velocity": [0.0] * count}
    kind, text = reason(convert.decode_observation_message, sensed(**changes), SPEC)
    assert kind is expected
    assert words in text


@pytest.mark.parametrize(("field", "value"), [("position", 1e30), ("position", -9.0), ("velocity", 200.0)])
def test_a_reading_that_no_joint_can_give_is_refused(field, value):
    values = np.zeros(SPEC.obs_dim)
    values[(0 if field == "position" else len(SPEC.joints)) + 1] = value
    with pytest.raises(
        BadMessageError, match=f"{field} of .'{SPEC.joint_names[1]}'. is far outside"
    ) as refused:
        convert.decode_observation_message(convert.make_observation_message(values, SPEC, 1), SPEC)
    assert refused.value.reason is RejectionReason.RANGE


@pytest.mark.parametrize(
    ("task", "goal"),
    [
        (Task(reward="reach", goal=3), [0.1, 0.2, 0.3]),
        (Task(reward="reach", goal=7), [0.1, 0.2, 0.3, 0.0, 0.6, 0.0, 0.8]),
        (Task(reward="hold", goal=6), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (Task(reward="track_joints", goal=2, parameters={"joints": ["wrist_roll", "base_yaw"]}), [0.1, -0.2]),
        (Task(reward="track_velocity", goal=6), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (Task(reward="mine", goal=4), [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_a_goal_comes_back_from_the_message_of_its_task(task, goal):
    decoder = GoalDecoder(SPEC, task)
    message = convert.make_goal_message(np.float32(goal), decoder, STAMP)
    assert type(message) is convert.GOAL_MESSAGES[decoder.goal_type]
    assert not decoder.has_stamp or convert.read_stamp(message) == STAMP
    found = convert.decode_goal_message(
        deserialize_message(serialize_message(message), type(message)), decoder
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, goal, rtol=1e-6)


def test_a_goal_in_another_frame_is_refused():
    message = convert.make_point_message(np.zeros(3), 1)
    message.header.frame_id = "camera"
    with pytest.raises(BadMessageError, match="'camera'") as refused:
        convert.decode_goal_message(message, GoalDecoder(SPEC, Task(reward="reach", goal=3)))
    assert refused.value.reason is RejectionReason.FRAME


def test_a_goal_that_is_not_finite_is_refused():
    message, decoder = (
        convert.make_point_message(np.array([0.1, 0.2, 0.3]), STAMP),
        GoalDecoder(SPEC, Task(reward="reach", goal=3)),
    )
    np.testing.assert_allclose(convert.decode_goal_message(message, decoder), [0.1, 0.2, 0.3], rtol=1e-6)
    message.point.y = math.nan
    assert reason(convert.decode_goal_message, message, decoder)[0] is RejectionReason.NOT_FINITE


def test_motors_are_told_an_effort_and_servos_a_position():
    cartpole = load_spec("cartpole")
    message = convert.make_action_message(np.array([0.5], np.float32), cartpole, STAMP)
    assert list(message.effort) == [0.5] and not message.position
    np.testing.assert_array_equal(convert.decode_action_message(message, cartpole), np.float32([0.5]))


def test_a_robot_of_several_kinds_has_each_action_in_the_array_of_its_kind():

    kinds = ("effort", "velocity", *["position"] * (SPEC.action_dim - 2))
    mixed = replace(
        SPEC, actuators=tuple(replace(a, kind=kind) for a, kind in zip(SPEC.actuators, kinds, strict=True))
    )
    message = convert.make_action_message(ACTION, mixed, STAMP)
    assert message.effort[0] == ACTION[0] and message.velocity[1] == ACTION[1]
    assert np.isnan(message.position[0]) and np.isnan(message.velocity[0])
    np.testing.assert_array_equal(convert.decode_action_message(message, mixed), ACTION)
    message.velocity[1] = np.nan
    with pytest.raises(BadMessageError, match="velocity is not finite for"):
        convert.decode_action_message(message, mixed)


def test_numpy_scalars_arrive_as_the_numbers_they_are():
    # Unchecked, a numpy float32 in a float64 field arrives as 5e-315.
    point = convert.make_point_message(np.float32([0.5, 0.25, 0.125]), STAMP)
    assert [type(x) for x in (point.point.x, point.point.y, point.point.z)] == [float] * 3
    assert convert.make_number_message(np.float32(0.5)).data == 0.5
    assert isinstance(point, PointStamped)


def test_plain_values_survive_as_text_and_nan_does_not():
    values = {"event": "change", "world": {"payload": 0.4}, "stamp": STAMP}
    assert convert.decode_json_message(convert.make_json_message(values)) == values
    with pytest.raises(ValueError, match="not JSON compliant"):
        convert.make_json_message({"surprise": math.nan})


def test_diagnostics_carry_name_level_and_numbers_as_text():
    message = convert.make_diagnostics_message(
        STAMP, "arm", [("plant: timing", "warn", "late", {"p99": 1.5})]
    )
    (status,) = message.status
    assert (status.name, status.level, status.hardware_id) == ("plant: timing", DiagnosticStatus.WARN, "arm")
    assert [(v.key, v.value) for v in status.values] == [("p99", "1.5")]


def test_an_empty_message_is_refused_and_not_a_crash():
    assert reason(convert.decode_observation_message, JointState(), SPEC)[0] is RejectionReason.NAMES
    assert reason(convert.decode_action_message, JointState(), SPEC)[0] is RejectionReason.NAMES
