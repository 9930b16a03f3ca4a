"""A robot that receives nothing says what is missing, with the same words in log, /diagnostics and services."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wm_robot.robots import load_spec
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command

SPEC = load_spec("arm")
FAKE = str(Path(__file__).with_name("fake_agent.py"))
NO_CLOCK = (
    "use_sim_time is set and nothing is published on /clock: without a clock this node neither acts nor learns; "
    "start the simulator's clock or set use_sim_time:=false"
)


class Asked:
    """A node, asked in each of the ways in which it answers."""

    def __init__(self, peer, log, *, name, service):
        self._peer, self._log = peer, log
        self._diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
        self._status = peer.hear(String, f"{name}/status")
        self._name, self._client = name, peer.node.create_client(Trigger, f"{name}/{service}")
        peer.until(
            lambda: self._client.service_is_ready() and self._status, f"{name} is not there", timeout=40
        )

    @property
    def status(self):
        return convert.decode_json_message(self._status[-1])

    @property
    def log(self):
        return self._log.read_text(errors="replace")

    def answer(self):
        asked = self._client.call_async(Trigger.Request())
        self._peer.until(asked.done, "no answer")
        return asked.result()

    def diagnostics(self):
        return [
            one.message for array in self._diagnostics[-4:] for one in array.status if self._name in one.name
        ]

    def until_told(self, words, *, answers=True):
        """Until diagnostics, status, log and the service say so; the log once."""
        self._diagnostics.clear()
        self._peer.until(
            lambda: (
                any(words in message for message in self.diagnostics())
                and any(words in each for each in self.status["missing"])
                and words in self.log
            ),
            f"it does not say '{words}'",
        )
        assert not answers or words in self.answer().message
        assert self.log.count(words) == 1

    def until_well(self):
        self._peer.until(lambda: not self.status["missing"], "something is missing still")


@pytest.fixture
def begin(start, peer, tmp_path, environment):
    """Starts nodes, each to be asked."""
    environment.update(NOTEBOOK=str(tmp_path / "notebook"), THINKS="0")
    count = iter(range(9))

    def plant(**parameters):
        start(make_node_command("plant_node", {"seed": 1, "hold_if_late": False, **parameters}))
        return Asked(peer, tmp_path / f"node{next(count)}.log", name="plant", service="arm")

    def agent(**parameters):
        state = {"autostart": True, "save_to": str(tmp_path / "state"), "save_every": 0.0}
        command = make_node_command("agent_node", {"observation.max_age": 10.0, **state, **parameters})
        start([sys.executable, FAKE, *command[3:]])
        return Asked(peer, tmp_path / f"node{next(count)}.log", name="agent", service="save")

    def control(**parameters):
        start(make_node_command("control_node", {"states.topic": "/robot/joint_states", **parameters}))
        return Asked(peer, tmp_path / f"node{next(count)}.log", name="plant", service="arm")

    plant.agent, plant.control = agent, control
    return plant


def careless_publisher(peer, kind, topic, **policies):
    """A publisher that offers less than is asked for, and does not complain itself."""
    silent = PublisherEventCallbacks(use_default_callbacks=False)
    return peer.node.create_publisher(kind, topic, QoSProfile(depth=1, **policies), event_callbacks=silent)


def run_clock(peer, *, pace=1.0):
    """A simulator's clock, a hundred times a second; returns what ends it."""
    out, began = peer.node.create_publisher(Clock, "/clock", 10), peer.now()

    def tick():
        message = Clock()
        message.clock = convert.make_time_message(10**9 + round(pace * (peer.now() - began)))
        out.publish(message)

    timer = peer.node.create_timer(0.01, tick)

    def end():
        peer.node.destroy_timer(timer)

    return end


def test_without_a_simulators_clock_plant_and_agent_wait_say_so_and_begin_with_it(begin, peer):
    plant, agent = begin(use_sim_time=True), begin.agent(use_sim_time=True)
    observations = peer.hear(JointState, "joint_states")
    for node in (plant, agent):
        node.until_told(NO_CLOCK)
        assert not node.answer().success
    assert agent.status["num_actions"] == 0 and not observations, (
        "something was done at a time that stands still"
    )

    end = run_clock(peer)
    peer.until(lambda: agent.status["lifetime"]["num_steps"] > 50, "it does not learn", timeout=40)
    for node in (plant, agent):
        node.until_well()
    assert plant.answer().success
    # Paused, as simulators are.
    end()
    paused = "use_sim_time is set and /clock stands still at"
    # It has something to save by now.
    agent.until_told(paused, answers=False)
    plant.until_told(paused)
    acted = agent.status["num_actions"]
    peer.spin(1.0)
    assert agent.status["num_actions"] == acted
    assert plant.status["mode"] == "ready", "its controller's turn did not end"
    # Reset, as simulators are: it begins at the same second again.
    run_clock(peer)
    back = "/clock jumped back by"
    peer.until(lambda: back in plant.log and back in agent.log, "no word of the jump")
    lived = agent.status["lifetime"]["num_steps"]
    peer.until(lambda: agent.status["num_actions"] > acted + 50, "it does not act again")
    peer.until(lambda: agent.status["lifetime"]["num_steps"] > lived + 50, "it does not learn again")


def test_a_slow_clock_is_told_with_its_pace_and_with_what_comes_of_it(begin, peer):
    end = run_clock(peer, pace=0.3)
    plant, agent = begin(use_sim_time=True), begin.agent(use_sim_time=True)
    slow = "/clock runs at 0.3 times real time: a plant in real time stamps its periods of 20 ms as 6 ms"
    early = "observations have stamps closer together than the period of 20 ms"
    peer.until(
        lambda: slow in plant.log and slow in agent.log and early in agent.log, "it is not told", timeout=40
    )
    peer.until(lambda: any(slow in each for each in agent.diagnostics()), "no diagnostic")
    peer.until(lambda: 0.25 < (agent.status["clock"]["pace"] or 0) < 0.35, "no pace")
    peer.until(lambda: agent.status["unusable"]["early"] > 50, "not counted")
    status = agent.status
    causes = sum(status["unusable"][cause] for cause in ("gap", "early", "unpaired"))
    assert causes == status["lifetime"]["num_invalid"]
    end()


def test_an_agent_without_a_target_says_who_must_publish_it(begin, peer):
    agent = begin.agent()
    states, applied = peer.speak(JointState, "joint_states"), peer.speak(JointState, "applied_command")

    def step():
        stamp = peer.now()
        applied.publish(convert.make_action_message(np.zeros(6, np.float32), SPEC, stamp))
        states.publish(convert.make_observation_message(np.zeros(12, np.float32), SPEC, stamp))

    peer.node.create_timer(SPEC.dt, step)
    publish = (
        "Publish geometry_msgs/msg/PointStamped there with any QoS, in frame 'base_link', at least every 0.5 s "
        "(target.max_age)"
    )
    # What it lives without acting can be saved.
    lacking = "no recent target, so the agent does not act"
    agent.until_told(f"{lacking}: /target has no publisher. {publish}", answers=False)
    wrong = careless_publisher(peer, String, "target")
    none_fits = "/target has 1 publisher, none of them compatible: /peer publishes std_msgs/msg/String"
    agent.until_told(f"{lacking}: {none_fits}. {publish}", answers=False)
    peer.node.destroy_publisher(wrong)

    out = peer.speak(PointStamped, "target")
    frame = "target rejected: the target is in frame 'map', not 'base_link'"
    timer = peer.node.create_timer(0.05, lambda: out.publish(in_frame(peer.now(), "map")))
    agent.until_told(frame, answers=False)
    peer.node.destroy_timer(timer)
    assert agent.status["num_actions"] == 0
    peer.node.create_timer(0.05, lambda: out.publish(in_frame(peer.now(), "base_link")))
    peer.until(lambda: agent.status["num_actions"] > 10, "it does not act")
    agent.until_well()
    assert agent.answer().success


def in_frame(stamp, frame):
    message = convert.make_point_message(np.float32([0.3, 0.1, 0.2]), stamp)
    message.header.frame_id = frame
    return message


def test_an_agent_that_receives_nothing_names_topic_type_and_where_the_same_is_published(begin, peer):
    agent = begin.agent()
    agent.until_told("/target has no publisher. Publish geometry_msgs/msg/PointStamped there")
    agent.until_told(
        "no observation to act on: /joint_states has no publisher. Publish sensor_msgs/msg/JointState there with any "
        "QoS, 50 times a second"
    )
    peer.node.create_publisher(JointState, "/left/joint_states", 10)
    elsewhere = "sensor_msgs/msg/JointState is published on /left/joint_states: use one namespace, or remap"
    peer.until(lambda: elsewhere in agent.answer().message, "it does not say where")
    states = peer.speak(JointState, "joint_states")
    peer.node.create_timer(
        SPEC.dt,
        lambda: states.publish(convert.make_observation_message(np.zeros(12, np.float32), SPEC, peer.now())),
    )
    agent.until_told(
        "no applied command, so the agent neither starts nor learns: /applied_command has no publisher"
    )


def test_an_agent_names_the_node_whose_qos_offers_too_little(begin, peer):
    agent = begin.agent(**{"qos_overrides./joint_states.subscription.reliability": "reliable"})
    for topic in ("joint_states", "applied_command"):
        careless_publisher(peer, JointState, topic, reliability=ReliabilityPolicy.BEST_EFFORT)
    agent.until_told("none of them compatible: /peer offers best effort, and reliable is required")
    # What is asked for on one topic is not asked for on the other.
    assert sum("is required" in each for each in agent.status["missing"]) == 1


def test_a_control_node_says_why_the_states_that_come_are_not_used(begin, peer):
    plant = begin.control()
    plant.until_told(
        "no joint states: /robot/joint_states has no publisher. Publish sensor_msgs/msg/JointState"
    )
    out, said = peer.speak(JointState, "/robot/joint_states"), {}

    def publish():
        message = JointState(name=list(SPEC.joint_names), position=[0.1] * 6, **said)
        message.header.stamp = peer.now_message()
        out.publish(message)

    peer.node.create_timer(0.01, publish)
    mend = "The robot's spec observes velocity: let its hardware export a velocity state interface for each joint"
    for velocity, words in (
        ([math.nan] * 6, f"states rejected: velocity is not finite for {list(SPEC.joint_names)}. {mend}"),
        ([], f"states rejected: velocity has 0 numbers for 6 names. {mend}"),
    ):
        said["velocity"] = velocity
        plant.until_told(words)
        assert "times so far)" in plant.answer().message
    said["velocity"] = [0.0] * 6
    plant.until_told(
        "no robot description: /robot_description has no publisher. Publish std_msgs/msg/String there with reliable "
        "and transient local. Start robot_state_publisher, or set description.topic to ''"
    )
    careless_publisher(peer, String, "/robot_description", durability=DurabilityPolicy.VOLATILE)
    plant.until_told("none of them compatible: /peer offers volatile, and transient local is required")


def test_a_plant_that_nobody_commands_says_so_when_it_is_armed(begin):
    plant = begin()
    answer = plant.answer()
    assert answer.success
    assert (
        "no commands, holding position: /joint_command has no publisher. Publish sensor_msgs/msg/JointState"
        in (answer.message)
    )


def test_a_replay_does_not_wait_for_a_clock_that_it_cannot_hear(start, tmp_path):
    (tmp_path / "session.mcap").touch()
    process = start(
        make_node_command("replay_node", {"recording": str(tmp_path / "session.mcap"), "use_sim_time": True})
    )
    assert process.wait_for_exit(30) == 2
    (log,) = tmp_path.glob("node*.log")
    assert "use_sim_time is true; a replay needs the clock of the system" in log.read_text()
