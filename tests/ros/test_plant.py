import json
import math

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_robot.robots import load_spec
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_sim.standins.catalog import build_plant
from wm_robot_sim.standins.standin import StandIn

SPEC = load_spec("arm")


def plant(start, **parameters):
    return start(make_node_command("plant_node", {"seed": 1, **parameters}))


def test_it_publishes_at_the_rate_of_the_spec_with_stamps_that_increase(start, peer):
    # Before everything else where that is permitted: other work may share the machine.
    plant(start, **{"realtime.priority": 50})
    sensed, applied = peer.hear(JointState, "joint_states"), peer.hear(JointState, "applied_command")
    targets, tips = peer.hear(PointStamped, "target"), peer.hear(PointStamped, "ground_truth/gripper")
    peer.until(lambda: sensed and applied and targets and tips, "the plant says nothing")
    sensed.clear()
    peer.until(lambda: len(sensed) > 100, "the plant falls silent")
    stamps = [convert.read_stamp(message) for message in sensed]
    steps = np.diff(stamps) / 1e9
    assert (steps > 0).all()
    assert np.median(steps) == pytest.approx(SPEC.dt, rel=0.1)
    # The command in force and the target carry the stamp of the observation that they belong to.
    for others in (applied, targets, tips):
        assert set(stamps[:-1]) <= {convert.read_stamp(message) for message in others}
    assert list(sensed[0].name) == list(SPEC.joint_names)
    assert np.isfinite(convert.decode_observation_message(sensed[0], SPEC).values).all()


def test_a_good_command_moves_it_and_a_bad_one_is_counted_and_not_applied(start, peer):
    plant(start, status_rate=50.0)
    applied, status = peer.hear(JointState, "applied_command"), peer.hear(String, "plant/status")
    speak = peer.speak(JointState, "joint_command")
    peer.until(lambda: applied and status, "the plant says nothing")
    hold = convert.decode_action_message(applied[-1], SPEC)
    wanted = np.clip(hold + np.float32(0.05), SPEC.action_low, SPEC.action_high)

    def send(**changes):
        message = convert.make_action_message(wanted, SPEC, peer.now())
        for field, value in changes.items():
            setattr(message, field, value)
        speak.publish(message)
        return message

    def present():
        return convert.decode_action_message(applied[-1], SPEC)

    peer.until(lambda: send() and np.allclose(present(), wanted, atol=1e-6), "the command has no effect")
    good = send()
    peer.spin(0.2)

    far = np.float64(SPEC.action_low + 0.1).tolist()
    bad = {
        "not_finite": {"position": [math.nan, *far[1:]]},
        "size": {"position": far[:-1]},
        "names": {"name": ["nobody", *SPEC.action_names[1:]], "position": far},
        "no_stamp": {"position": far, "header": JointState().header},
        "duplicate": {"position": far, "header": good.header},
        "stale": {
            "position": far,
            "header": convert.make_point_message(hold[:3], peer.now() + 10**7 - 10**9).header,
        },
        "future": {
            "position": far,
            "header": convert.make_point_message(hold[:3], peer.now() + 10**10).header,
        },
    }
    twice = [SPEC.action_names[1], *SPEC.action_names[1:]]

    def refused():
        return convert.decode_json_message(status[-1])["commands"]["rejected"]

    before = sum(refused().values())
    for count, changes in enumerate([*bad.values(), {"name": twice, "position": far}], 1):
        send(**changes)
        # The queue keeps the newest only, so each waits for the one before.
        peer.until(lambda n=count: sum(refused().values()) == before + n, f"not refused: {changes}")
    peer.spin(0.1)
    np.testing.assert_allclose(present(), wanted, atol=1e-6)
    counts = {name: count for name, count in refused().items() if count}
    # A second old is also older than the command in force, which is said first.
    assert counts.pop("out_of_order") == 1
    assert counts == {"names": 2, "not_finite": 1, "size": 1, "no_stamp": 1, "duplicate": 1, "future": 1}


def test_without_commands_it_holds_and_says_so(start, peer):
    plant(start, **{"command.timeout": 0.2})
    applied, status = peer.hear(JointState, "applied_command"), peer.hear(String, "plant/status")
    diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
    speak = peer.speak(JointState, "joint_command")
    peer.until(lambda: applied and status, "the plant says nothing")
    hold = convert.decode_action_message(applied[-1], SPEC)
    speak.publish(convert.make_action_message(hold, SPEC, peer.now()))
    peer.until(lambda: convert.decode_json_message(status[-1])["holding"], "it does not notice the silence")
    np.testing.assert_allclose(convert.decode_action_message(applied[-1], SPEC), hold, atol=1e-6)
    diagnostics.clear()
    peer.until(lambda: diagnostics, "no diagnostics")
    assert any("holding position" in one.message for one in diagnostics[-1].status)


def test_the_world_changes_when_it_should_and_whoever_comes_late_hears_of_it(start, peer, tmp_path):
    report = tmp_path / "report.json"
    process = plant(
        start,
        **{
            "change.time": 0.5,
            "change.world": json.dumps(
                {"loaded": {"payload": 0.4, "weak_joint": "elbow_pitch", "gain": 0.3}}
            ),
            "duration": 1.5,
            "report": str(report),
        },
    )
    applied = peer.hear(JointState, "applied_command")
    speak = peer.speak(JointState, "joint_command")
    peer.until(lambda: applied, "the plant says nothing")
    speak.publish(
        convert.make_action_message(convert.decode_action_message(applied[-1], SPEC), SPEC, peer.now())
    )
    peer.spin(0.9)
    events = peer.hear(String, "ground_truth/event", latched=True)
    peer.until(lambda: len(events) == 2, "the change was not told")
    first, second = (convert.decode_json_message(event) for event in events)
    assert (first["event"], first["world"]["payload"]) == ("start", 0.0)
    assert (second["event"], second["world"]["payload"]) == ("change", 0.4)
    assert second["time"] == pytest.approx(0.5, abs=SPEC.dt)
    assert second["world"]["gain"][2] == pytest.approx(0.3)
    # The duration ends it, and it leaves its figures.
    assert process.wait_for_exit(10) == 0
    figures = json.loads(report.read_text())
    assert figures["num_steps"] == round(1.5 * SPEC.rate)
    assert figures["commands"]["accepted"] == figures["latency"]["count"] == 1


def test_a_standin_reaches_the_plant(start, peer):
    plant(start, plant="standin/coarse:7", status_rate=50.0)
    sensed, status = peer.hear(JointState, "joint_states"), peer.hear(String, "plant/status")
    applied = peer.hear(JointState, "applied_command")
    peer.until(lambda: sensed and status and applied, "the plant says nothing")
    assert convert.decode_json_message(status[-1])["plant"] == "standin/coarse:7"
    hold = convert.decode_action_message(applied[-1], SPEC)
    events, speak = (
        peer.hear(String, "ground_truth/event", latched=True),
        peer.speak(JointState, "joint_command"),
    )

    def has_started():
        # On a busy machine a command may be too old when it arrives.
        speak.publish(convert.make_action_message(hold, SPEC, peer.now()))
        return events

    peer.until(has_started, "the start was not told")
    assert convert.decode_json_message(events[0])["plant"] == "standin/coarse:7"
    # Its encoders are those of the stand-in: readings are on their grid.
    step = build_plant(SPEC, StandIn(name="coarse", seed=7)).parts.encoder.position_step
    counts = np.array(sensed[-1].position) / step
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"robot": "nobody"}, "there is no robot 'nobody'"),
        ({"plant": "standin/real"}, "there is no stand-in 'standin/real'; robot 'arm' has standin/sts3215"),
        ({"world": '{"gravity": 1}'}, "world has no field ['gravity']"),
        ({"world": '{"payload": NaN}'}, "world.payload is nan; it must be a number, not below 0"),
        ({"world": '{"payload": "heavy"}'}, "world.payload is 'heavy'"),
        ({"change.world": '{"gain": [1.0]}'}, "it must be 1 finite numbers, as many as gain"),
        ({"change.world": "paradise"}, "it must be nominal, random, or JSON"),
    ],
)
def test_a_setting_that_cannot_be_ends_it_with_one_line(start, environment, tmp_path, parameters, words):
    process = plant(start, **parameters)
    assert process.wait_for_exit(20) == 2
    (log,) = tmp_path.glob("node*.log")
    assert words in log.read_text()
    assert "Traceback" not in log.read_text()
