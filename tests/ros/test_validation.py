"""A plant in front of a real robot follows an agent with a valid validation record, and no other."""

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]
pytest.importorskip("cryptography")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from tests.ros.hardware_bench import Bench
from tests.validation_record.records import HOUR, failed_record, record, subject
from wm_robot.robots import load_spec
from wm_robot.robots.urdf import write_urdf
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.record_claim import RecordClaim
from wm_robot.sharing.signature import SigningKey
from wm_robot.sharing.signed_record import sign_record
from wm_robot.validation_record.installation import (
    compute_whole_spec_digest,
    read_battery_digest,
    read_installation,
)
from wm_robot.validation_record.subject import LineageEvent
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.qos import LATCHED_QOS, OUTPUT_QOS

SPEC = load_spec("arm")
COMMAND = np.full(6, 0.2)


class Robot(Bench):
    """A robot with emulated controllers; the test is its agent, and says what it runs."""

    def __init__(self, start, peer, folder, *, foreign="", **parameters):
        self.ring = Keyring(folder / "keys")
        self.key = self.ring.create_key("me")
        super().__init__(
            start,
            peer,
            folder,
            description=write_urdf(SPEC),
            foreign=foreign,
            keys=str(folder / "keys"),
            status_rate=50.0,
            **parameters,
        )
        spec, installed = load_spec(folder / "patient.yaml"), read_installation()
        self.what = {
            "robot": spec.name,
            "spec": compute_whole_spec_digest(spec),
            "model": spec.model_digest,
            "version": installed.version,
            "source": installed.source,
            "battery": read_battery_digest(spec.name, folder),
        }
        self.claims = peer.node.create_publisher(String, "/arm/agent/validation", LATCHED_QOS)
        self.speaks = peer.node.create_publisher(String, "/arm/agent/status", OUTPUT_QOS)
        self.notes = peer.hear(String, "/arm/plant/validation", latched=True)

    def signed(self, make=record, key=None, **changes):
        return sign_record(make(**(self.what | changes)), key or self.key).content.decode()

    def runs(self, **changes):
        return subject(**(self.what | {"battery": ""} | changes))

    def claim(self, content=None, **changes):
        """Report what the agent runs, and wait until the plant has judged it."""
        text = json.dumps(
            RecordClaim(
                subject=self.runs(**changes), record=self.signed() if content is None else content
            ).to_dict()
        )
        self.claims.publish(String(data=text))

    def judged(self, status, words=""):
        self.move(
            lambda: self.status and self.record()["status"] == status and words in self.record()["sentence"],
            f"it is not {status} with '{words}'",
        )

    def record(self):
        return self.says()["validation"]

    def acts(self, active=True):
        self.speaks.publish(String(data=json.dumps({"active": active, "fault": ""})))
        return True

    def drive(self, holds, why, **options):
        """Command as an agent that says that it acts, until something holds."""
        self.move(lambda: self.acts() and holds(), why, command=COMMAND, **options)


def refused(answer):
    """The sentence of a refused request, which is one."""
    assert not answer.success
    assert answer.message.isprintable() and len(answer.message) < 400
    return answer.message


def test_service_each_kind_of_record_that_does_not_count_is_refused_with_its_sentence(start, peer, tmp_path):
    robot = Robot(start, peer, tmp_path)
    robot.drive(
        lambda: robot.status and "has no validation record" in robot.says()["arming_obstacle"],
        "it is not refused",
    )
    assert "has no validation record" in refused(robot.arm(ready=False))
    broken = json.loads(robot.signed(failed_record))
    broken["record"]["verdict"] = "passed"
    for content, changes, status, words in (
        ("", {}, "missing", "has no validation record"),
        (None, {"steps": 1001 + 8 * HOUR}, "stale", "8.00 hours of lifetime have passed"),
        (None, {"source": "9" * 64}, "stale", "the installed wm_robot has changed"),
        (robot.signed(source="9" * 64), {"source": "9" * 64}, "stale", "the installed wm_robot has changed"),
        (robot.signed(spec="9" * 64), {"spec": "9" * 64}, "stale", "the spec has changed"),
        (
            None,
            {"base": "9" * 64},
            "stale",
            "the base has changed",
        ),
        (None, {"ancestor": None}, "foreign", "does not descend"),
        (robot.signed(robot="leg"), {}, "foreign", "it judged robot 'leg'"),
        (robot.signed(key=SigningKey.generate()), {}, "foreign", "which is not trusted"),
        (robot.signed(failed_record), {}, "failed", "'joint limits' failed"),
        (json.dumps(broken, sort_keys=True, separators=(",", ":")), {}, "damaged", "is not what key"),
        ("nonsense", {}, "damaged", "not valid JSON"),
    ):
        robot.claim(content, **changes)
        robot.judged(status, words)
        robot.drive(lambda: True, "")
        assert words in refused(robot.arm(ready=False))
    robot.claims.publish(String(data="[" * 1000))
    robot.judged("damaged", "not valid JSON")
    assert not robot.told and robot.says()["mode"] == "limp"
    assert (
        robot.says()["commands"]["accepted"] == 0 and robot.says()["commands"]["rejected"]["unvalidated"] > 0
    )

    robot.claim()
    robot.judged("valid")
    robot.drive(lambda: not robot.says()["arming_obstacle"], "it cannot be armed")
    assert robot.arm().success
    robot.drive(lambda: robot.mode() == "learned", "a valid record does not arm it")


def test_launch_argument_armed_waits_for_a_valid_record(start, peer, tmp_path):
    robot = Robot(start, peer, tmp_path, armed=True)
    robot.claim(steps=1001 + 8 * HOUR)
    robot.drive(lambda: robot.status and robot.record()["refused"] > 25, "the agent is not refused")
    assert robot.mode() == "limp" and not robot.told
    assert "Run: wm-robot validate BASE --quick" in robot.says()["arming_obstacle"]
    robot.claim()
    robot.drive(lambda: robot.mode() == "learned", "it is not armed with a valid record")


def test_a_node_that_is_armed_before_its_agent_starts_never_follows_it_without_a_record(
    start, peer, tmp_path
):
    robot = Robot(start, peer, tmp_path)
    modes = set()
    robot.move(lambda: robot.sensed, "nothing is sensed")
    assert robot.arm().success, "the fallback controller needs no record"
    robot.move(lambda: robot.mode() == "ready", "it does not come home")
    # An agent that hides: no status, no report, but it answers observations.
    told = len(robot.told)
    robot.move(
        lambda: modes.add(robot.mode()) or robot.record()["refused"] > 25,
        "it is not refused",
        command=COMMAND,
    )
    # Nor does it become a joystick by stamps of its own.
    before = robot.record()["refused"]
    robot.move(
        lambda: modes.add(robot.mode()) or robot.record()["refused"] > before + 25,
        "an agent with other stamps is taken for a joystick",
        command=COMMAND,
        own_stamps=True,
    )
    assert modes == {"ready"} and np.abs(robot.place).max() < 0.05 and len(robot.told) > told
    assert "has no validation record" in robot.record()["refusal"]

    robot.claim()
    robot.judged("valid")
    robot.drive(lambda: robot.mode() == "learned", "a valid record does not count")
    # It is imported, as another state over a service: the report says so at once.
    robot.claim(events=(LineageEvent.IMPORT,))
    robot.drive(lambda: robot.mode() == "hold", "it goes on with a stale record")
    assert "imported since" in robot.says()["reason"]
    robot.drive(lambda: True, "")
    assert "imported since" in refused(robot.arm(ready=False))


def test_a_joystick_needs_no_record_and_a_relay_of_an_agent_does(start, peer, tmp_path):
    robot = Robot(start, peer, tmp_path)
    robot.move(lambda: robot.sensed, "nothing is sensed")
    assert robot.arm().success
    robot.move(lambda: robot.mode() == "learned", "a joystick is refused", command=COMMAND, own_stamps=True)
    # An agent reports that it acts, so these may be its commands with other stamps.
    robot.drive(lambda: robot.mode() == "hold", "a relay is followed", own_stamps=True)
    assert "has no validation record" in robot.says()["reason"]
    robot.acts(active=False)
    robot.move(lambda: not robot.says()["arming_obstacle"], "it cannot be armed", own_stamps=True)
    assert robot.arm().success
    robot.move(lambda: robot.mode() == "learned", "a joystick is refused", command=COMMAND, own_stamps=True)


def test_a_foreign_controller_is_named_and_an_agent_is_not_taken_for_it(start, peer, tmp_path):
    robot = Robot(start, peer, tmp_path, foreign="/peer")
    robot.move(lambda: robot.sensed, "nothing is sensed")
    assert robot.arm().success
    robot.move(lambda: robot.mode() == "learned", "the named controller is refused", command=COMMAND)
    assert robot.record()["foreign_controller"] == "/peer"
    robot.drive(lambda: robot.mode() == "hold", "an agent under that name is followed")


def test_the_record_of_another_node_does_not_count_for_a_publisher(start, peer, tmp_path):
    robot = Robot(start, peer, tmp_path)
    hidden = rclpy.create_node("hidden", context=peer.context)
    commands = hidden.create_publisher(JointState, "/arm/joint_command", OUTPUT_QOS)
    robot.move(lambda: robot.sensed, "nothing is sensed")
    robot.claim()
    robot.judged("valid")
    assert robot.arm().success

    def is_refused():
        stamp = convert.read_stamp(robot.sensed[-1])
        commands.publish(convert.make_action_message(np.float32(COMMAND), SPEC, stamp))
        return robot.record()["refused"] > 10

    robot.move(is_refused, "a hidden agent uses the record of another")
    hidden.destroy_node()
    assert robot.mode() != "learned"
    assert "/peer reported it, and commands come from /hidden" in robot.record()["refusal"]


def test_an_accepted_risk_is_followed_and_shown_while_it_is_in_force(start, peer, tmp_path):
    robot = Robot(start, peer, tmp_path, accept_risk="a test stand without power")
    diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
    robot.move(lambda: robot.sensed and robot.status, "nothing is sensed")
    assert (
        not robot.record()["risk_in_force"]
        and robot.record()["accepted_risk"] == "a test stand without power"
    )
    robot.acts()
    assert robot.arm().success
    robot.drive(lambda: robot.mode() == "learned", "an accepted risk is not followed")
    robot.drive(
        lambda: robot.notes and json.loads(robot.notes[-1].data)["risk_in_force"], "it is not published"
    )
    assert robot.record()["risk_in_force"] and robot.record()["status"] == "missing"

    def shown():
        return [s for message in diagnostics for s in message.status if s.name == "arm/plant: validation"]

    robot.drive(shown, "it is not shown")
    assert shown()[-1].message.startswith("accepted risk: a test stand without power; ")
    robot.claim()
    robot.drive(
        lambda: not json.loads(robot.notes[-1].data)["risk_in_force"],
        "a valid record leaves the risk in force",
    )
    (log,) = tmp_path.glob("node*.log")
    assert "accepted risk" in log.read_text()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"accept_risk": "two\nlines"}, "accept_risk must be a reason in one line"),
        ({"foreign_controller": "mpc"}, "must be the full name of a node, such as /mpc"),
    ],
)
def test_an_invalid_parameter_is_refused(start, tmp_path, parameters, words):
    process = start(make_node_command("control_node", parameters, namespace="arm"))
    assert process.wait_for_exit(30) == 2
    (log,) = tmp_path.glob("node*.log")
    assert words in log.read_text()
