"""Everything that another node may do wrong to a plant and to an agent: one diagnostic, one line, and no harm."""

import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wm_robot.robots import load_spec
from wm_robot.streams.source_lock import SourceLock
from wm_robot_benchmarks.ros_probes import PROBES
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.qos import OUTPUT_QOS, SENSOR_QOS
from wm_robot_ros.middleware.subscriptions import IdentifiedSubscription

SPEC = load_spec("arm")
FAKE = str(Path(__file__).with_name("fake_agent.py"))
GOAL = np.float32([0.3, 0.1, 0.2])
PERIOD = round(SPEC.dt * 1e9)
BURST = 10
"""Wrong messages at once."""
NAMES = (
    list(SPEC.action_names),
    ["nobody", *SPEC.action_names[1:]],
    list(SPEC.action_names[:-1]),
)


class Told:
    """What a node says of itself: its diagnostics, and its log."""

    def __init__(self, peer, process, log):
        self._peer, self.process, self._log = peer, process, log
        self._first_line = 0
        self._diagnostics = peer.hear(DiagnosticArray, "/diagnostics")

    def until(self, words, doing=lambda: None):
        """Until a diagnostic that is not `ok` says so from now on."""
        self._diagnostics.clear()

        def said():
            doing()
            return any(
                words in one.message and one.level != one.OK
                for array in self._diagnostics
                for one in array.status
            )

        self._peer.until(said, f"no diagnostic says '{words}'")

    def skip_lines(self):
        """Leave out what the log has so far: on a busy machine a node looks for its peers longer, and says so."""
        self._first_line = len(self._read_lines())

    def _read_lines(self):
        return self._log.read_text(errors="replace").splitlines()

    def is_well(self, words):
        """It goes on, and its log has one line of that, whatever else it has."""
        assert self.process.is_running
        lines = self._read_lines()[self._first_line :]
        assert sum(words in line for line in lines) == 1, lines
        assert not any("Traceback" in line for line in lines)
        assert len(lines) < 30, lines


def careless_publisher(peer, topic):
    """A publisher that promises nothing."""
    careless = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    silent = PublisherEventCallbacks(use_default_callbacks=False)
    peer.node.create_publisher(JointState, topic, careless, event_callbacks=silent)


@pytest.fixture
def plant(start, peer, tmp_path):
    """A plant that follows us to where it is."""

    class Played:
        def __init__(self, *, answers=True, **parameters):
            process = start(
                make_node_command(
                    "plant_node",
                    {"seed": 1, "status_rate": 50.0, "hold_if_late": False, "command.timeout": 0.3}
                    | parameters,
                )
            )
            self.told = Told(peer, process, tmp_path / "node0.log")
            self.applied, self._status = (
                peer.hear(JointState, "applied_command"),
                peer.hear(String, "plant/status"),
            )
            self.speak = peer.speak(JointState, "joint_command")
            peer.until(lambda: self.applied and self._status, "the plant says nothing")
            self.place = convert.decode_action_message(self.applied[-1], SPEC)
            self.answers, self.stamp = answers, 0
            peer.node.create_subscription(JointState, "joint_states", self._answer, SENSOR_QOS)

        def _answer(self, message):
            self.stamp = convert.read_stamp(message)
            if self.answers:
                self.speak.publish(self.message())

        def send_many(self, make):
            for _ in range(BURST):
                self.speak.publish(make(self))

        def message(self, stamp=None, **changes):
            message = convert.make_action_message(self.place, SPEC, stamp or self.stamp)
            for field, value in changes.items():
                setattr(message, field, value)
            return message

        @property
        def status(self):
            return convert.decode_json_message(self._status[-1])

        def until_learned(self):
            peer.until(lambda: self.status["mode"] == "learned", f"it is in {self.status['mode']}")

        def is_unharmed(self):
            """It never was told to go elsewhere than where we had it."""
            for message in self.applied:
                np.testing.assert_allclose(
                    convert.decode_action_message(message, SPEC), self.place, atol=1e-6
                )

    return Played


WRONG_COMMANDS = {
    "a joint of another robot": (
        lambda p: p.message(p.stamp + 1, name=NAMES[1]),
        "command rejected: actuators ['nobody'] are unknown",
    ),
    "a joint that is missing": (
        lambda p: p.message(p.stamp + 1, name=NAMES[2], position=p.place[:-1].tolist()),
        "command rejected: joints ['wrist_roll'] are missing",
    ),
    "fewer numbers than names": (
        lambda p: p.message(p.stamp + 1, position=p.place[:-1].tolist()),
        "command rejected: position has 5 numbers for 6 names",
    ),
    "not a number": (
        lambda p: p.message(p.stamp + 1, position=[math.nan] * SPEC.action_dim),
        "command rejected: position is not finite for",
    ),
    "time that runs back": (
        lambda p: p.message(p.stamp - 3 * PERIOD, position=[0.5] * SPEC.action_dim),
        "command rejected: it is older than the previous one",
    ),
    "a clock that is ahead": (
        lambda p: p.message(p.stamp + 10**10, position=[0.5] * SPEC.action_dim),
        "command rejected: its stamp is in the future",
    ),
}


def test_a_plant_says_what_is_wrong_with_a_command_and_does_not_use_it(plant):
    played = plant()
    played.until_learned()
    for make, words in WRONG_COMMANDS.values():
        played.told.until(words, lambda make=make: played.send_many(make))
        played.told.is_well(words)
        played.is_unharmed()


def test_a_plant_says_whose_qos_does_not_fit(plant, peer):
    played = plant(**{"qos_overrides./joint_command.subscription.reliability": "reliable"})
    played.until_learned()
    careless_publisher(peer, "joint_command")
    words = "/joint_command is not received from all publishers: /peer offers best effort, and reliable is required"
    played.told.until(words)
    played.told.is_well(words)
    played.is_unharmed()


def test_a_plant_holds_when_its_controller_dies(plant, peer, start):
    played = plant(answers=False)
    # Nobody else commands: a flood is then a controller as any other.
    controller = start(make_node_command(f"{PROBES}.flood_node", {"rate": 200.0}))
    played.until_learned()
    os.kill(controller.pid, signal.SIGKILL)
    played.told.until("no commands, holding position")
    peer.until(lambda: played.status["holding"], "it does not hold")
    peer.until(lambda: played.status["mode"] == "ready", "its controller's turn does not end")
    assert played.told.process.is_running


def test_a_flood_is_not_used_even_while_the_controller_stalls(plant, peer, start):
    played = plant()
    played.until_learned()
    start(make_node_command(f"{PROBES}.flood_node", {"rate": 10_000.0}))
    words = "two nodes publish 'joint_command': that of /peer is used, that of /flood is not"
    played.told.until(words)
    played.answers = False
    peer.until(lambda: played.status["holding"], "it does not hold")
    refused = played.status["commands"]["rejected"]["source"]
    accepted = played.status["commands"]["accepted"]
    # Its stamps are those of the newest observations but one, and nobody else answers these any more.
    peer.until(
        lambda: played.status["commands"]["rejected"]["source"] > refused + 100, "the flood has dried up"
    )
    assert played.status["commands"]["accepted"] == accepted and played.status["mode"] == "ready"
    played.answers = True
    played.until_learned()
    played.told.is_well(words)
    played.is_unharmed()


def test_who_spoke_against_a_controller_follows_it_only_if_armed(plant, peer):
    played = plant()
    other = peer.node.create_publisher(JointState, "joint_command", 10)
    played.until_learned()

    def send():
        other.publish(played.message(position=(played.place + np.float32(0.05)).tolist()))

    played.told.until("two nodes publish 'joint_command'", send)
    # It ends in order, and is taken down; the other goes on.
    played.answers = False
    peer.node.destroy_publisher(played.speak)
    played.told.until("the node that published 'joint_command' is gone", send)
    played.told.until("is not used, because it published against another node. Call ~/arm to use it", send)
    played.is_unharmed()
    arm(peer)

    def followed():
        send()
        return np.allclose(
            convert.decode_action_message(played.applied[-1], SPEC), played.place + 0.05, atol=1e-6
        )

    peer.until(followed, "it is not followed")


@pytest.mark.parametrize("name", ["flood", "another"])
def test_what_was_started_in_the_place_of_a_killed_controller_is_followed_once_armed(
    plant, peer, start, name
):
    played = plant(answers=False)
    controller = start(make_node_command(f"{PROBES}.flood_node", {"rate": 200.0}))
    played.until_learned()
    introduced(peer, "flood")
    os.kill(controller.pid, signal.SIGKILL)
    peer.until(lambda: played.status["holding"], "it does not hold")
    start(make_node_command(f"{PROBES}.flood_node", {"rate": 200.0}, name=name))
    played.told.until(f"two nodes publish 'joint_command': that of /flood is used, that of /{name} is not")
    accepted = played.status["commands"]["accepted"]
    arm(peer)
    # DDS itself takes longer than this to see that the first is gone.
    if name == "flood":
        peer.until(
            lambda: played.status["commands"]["accepted"] > accepted, "it is not followed", timeout=8.0
        )
    else:
        peer.spin(2.0)
        assert played.status["commands"]["accepted"] == accepted


def introduced(peer, name):
    """Wait until everybody knows whose a command is: a node is heard before it is introduced."""
    peer.until(
        lambda: name in {info.node_name for info in peer.node.get_publishers_info_by_topic("joint_command")},
        f"{name} is not introduced",
    )
    peer.spin(0.5)


def arm(peer):
    """Say that all is well."""
    client = peer.node.create_client(Trigger, "plant/arm")
    peer.until(client.service_is_ready, "no service to arm it")
    armed = client.call_async(Trigger.Request())
    peer.until(armed.done, "no answer")


@pytest.fixture
def agent(start, peer, tmp_path, environment):
    """An agent that answers with the positions that it senses, and we play its plant."""

    class Played:
        def __init__(self, **parameters):
            environment.update(NOTEBOOK=str(tmp_path / "notebook"), THINKS="0")
            patient = {"observation.max_age": 10.0, "target.max_age": 3600.0, "autostart": True}
            command = make_node_command("agent_node", {**patient, **parameters})
            process = start([sys.executable, FAKE, *command[3:]])
            self.told = Told(peer, process, tmp_path / "node0.log")
            self.heard, self._one = [], SourceLock(block_rejected=True)
            IdentifiedSubscription(peer.node, JointState, "joint_command", self._hear, OUTPUT_QOS)
            self.states = peer.speak(JointState, "joint_states")
            self._applied, self._targets = (
                peer.speak(JointState, "applied_command"),
                peer.speak(PointStamped, "target"),
            )
            peer.until(lambda: peer.node.count_publishers("joint_command"), "no agent")
            self.begun = self.stamp = peer.now()
            self.places = np.float32(np.arange(12) / 100)
            self.sent = set()

        def _hear(self, message, source):
            """The agent's, and nobody else's: a flood has commands too."""
            if not self._one.rejects(source):
                self._one.lock_to(source)
                self.heard.append(message)

        def step(self):
            """What a plant that is well says now; a stamp that runs ahead of the clock would be refused."""
            self.stamp = max(self.stamp + 1, peer.now())
            self.sent.add(self.stamp)
            self._targets.publish(convert.make_point_message(GOAL, self.stamp))
            self._applied.publish(convert.make_action_message(self.places[:6], SPEC, self.stamp))
            self.states.publish(self.message())

        def send_many(self, make):
            self.step()
            for _ in range(BURST):
                self.states.publish(make(self))

        def message(self, stamp=None, **changes):
            message = convert.make_observation_message(self.places, SPEC, stamp or self.stamp)
            for field, value in changes.items():
                setattr(message, field, value)
            return message

        def until_it_acts(self):
            before = len(self.heard)

            def acts():
                self.step()
                peer.spin(0.02)
                return len(self.heard) > before + 3

            peer.until(acts, "it does not act")

        def is_unharmed(self):
            """It answered what we said, and nothing else."""
            for message in self.heard:
                assert convert.read_stamp(message) in self.sent
                np.testing.assert_allclose(
                    convert.decode_action_message(message, SPEC), self.places[:6], atol=1e-6
                )

    return Played


WRONG_OBSERVATIONS = {
    "a joint that is missing": (
        lambda p: p.message(p.stamp + 1, name=SPEC.joint_names[:-1], position=[0.5] * 5, velocity=[0.5] * 5),
        "observation rejected: joints ['wrist_roll'] are missing",
    ),
    "joints of another robot": (
        lambda p: p.message(p.stamp + 1, name=["nobody", *SPEC.joint_names[1:]]),
        "observation rejected: joints ['base_yaw'] are missing",
    ),
    "not a number": (
        lambda p: p.message(p.stamp + 1, position=[math.nan] * 6),
        "observation rejected: position is not finite for",
    ),
    "what no joint can do": (
        lambda p: p.message(p.stamp + 1, position=[1e6] * 6),
        "is far outside what the joint can do",
    ),
    "time that runs back": (
        lambda p: p.message(p.begun, position=[0.5] * 6),
        "observation rejected: it is older than the previous one",
    ),
    "a clock that is ahead": (
        lambda p: p.message(p.stamp + 10**12, position=[0.5] * 6),
        "observation rejected: its stamp is in the future",
    ),
}


def test_an_agent_says_what_is_wrong_with_an_observation_and_does_not_act_on_it(agent):
    played = agent()
    played.until_it_acts()
    for make, words in WRONG_OBSERVATIONS.values():
        played.told.until(words, lambda make=make: played.send_many(make))
        played.until_it_acts()
        played.told.is_well(words)
        played.is_unharmed()


def test_an_agent_says_whose_qos_does_not_fit(agent, peer):
    played = agent(**{"qos_overrides./joint_states.subscription.reliability": "reliable"})
    played.until_it_acts()
    careless_publisher(peer, "joint_states")
    words = "/joint_states is not received from all publishers: /peer offers best effort, and reliable is required"
    played.told.until(words)
    played.told.is_well(words)


def test_an_agent_says_that_its_plant_is_silent_and_goes_on_when_it_is_back(agent):
    played = agent()
    played.until_it_acts()
    played.told.skip_lines()
    played.told.until("no observation to act on")
    played.until_it_acts()
    played.told.is_well("no observation to act on")
    played.is_unharmed()


@pytest.mark.parametrize("rate", [2_000.0, pytest.param(10_000.0, marks=pytest.mark.soak)])
def test_an_agent_hears_one_plant_however_fast_another_node_is(agent, start, rate):
    played = agent()
    played.until_it_acts()
    flood = start(make_node_command(f"{PROBES}.flood_node", {"rate": rate}))
    words = "two nodes publish 'joint_states': that of /peer is used, that of /flood is not"
    played.told.until(words, played.step)
    played.until_it_acts()
    played.is_unharmed()
    flood.stop_process()
    played.until_it_acts()
    played.told.is_well(words)
    played.is_unharmed()
