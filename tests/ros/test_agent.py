import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from wm_robot.errors import DeviceError
from wm_robot_ros import convert
from wm_robot_ros.environment import node_command
from wm_robot_ros.lifecycle import LifecycleClient
from wm_robot_sim import load_spec

SPEC = load_spec("arm")
FAKE = str(Path(__file__).with_name("fake_agent.py"))
GOAL = np.float32([0.3, 0.1, 0.2])


class Plant:
    """Plays the plant to an agent node, message by message."""

    def __init__(self, peer):
        self.peer = peer
        self.states = peer.speak(JointState, "joint_states")
        self.commands = peer.speak(JointState, "applied_command")
        self.targets = peer.speak(PointStamped, "target")
        self.heard = peer.hear(JointState, "joint_command")
        peer.until(lambda: self.states.get_subscription_count() and peer.node.count_publishers("joint_command"), "-")
        self.step = 0
        self.stamp = peer.now()

    def obs(self, step):
        return np.float32(np.arange(12) / 100 + step / 1000)

    def action(self, step):
        return np.float32(np.arange(6) / 10 + step / 1000)

    def state_message(self):
        return convert.observation_message(self.obs(self.step), SPEC, self.stamp)

    def advance(self, *, state=None, applied=True, target=True, late=0.0):
        """One period; `state` False sends no observation, a message replaces it."""
        self.step += 1
        self.stamp += round(SPEC.dt * 1e9)
        self.peer.spin(max(0.0, (self.stamp - self.peer.now()) / 1e9) + late)
        if target:
            self.targets.publish(convert.point_message(GOAL, self.stamp))
        if applied:
            self.commands.publish(convert.action_message(self.action(self.step), SPEC, self.stamp))
        # Topics keep no order among one another.
        self.peer.spin(0.003)
        if state is not False:
            self.states.publish(self.state_message() if state is None else state)

    def settle(self):
        self.peer.spin(0.1)
        self.stamp = self.peer.now()


@pytest.fixture
def agent(start, peer, tmp_path, environment):
    """Starts an agent with a notebook for a life."""

    def begin(**parameters):
        environment["NOTEBOOK"] = str(tmp_path / "notebook")
        command = node_command("agent_node", parameters)
        start([sys.executable, FAKE, *command[3:]])
        return LifecycleClient(peer.node, peer.executor, "agent")

    def notes(kind):
        lines = (tmp_path / "notebook").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        # All before the last birth was rehearsal.
        born = max(i for i, note in enumerate(found) if "begin" in note)
        return [note for note in found[born:] if kind in note]

    begin.notes = notes
    return begin


def test_its_life_cycle_is_driven_from_another_process(agent, peer, tmp_path):
    client = agent(state=str(tmp_path / "state"))
    assert client.state() == "unconfigured"
    client.configure()
    assert client.state() == "inactive"
    plant = Plant(peer)
    for _ in range(5):
        plant.advance()
    assert not plant.heard, "an inactive agent acts"
    client.activate()
    plant.settle()
    for _ in range(10):
        plant.advance()
    plant.settle()
    assert len(plant.heard) >= 9
    client.deactivate()
    assert json.loads((tmp_path / "state" / "life.json").read_text())["steps"] >= 8
    spoken = len(plant.heard)
    for _ in range(5):
        plant.advance()
    plant.settle()
    assert len(plant.heard) == spoken, "a deactivated agent acts"
    client.cleanup()
    assert client.state() == "unconfigured"
    # And round again.
    client.configure()
    client.activate()
    assert client.state() == "active"


def test_it_acts_on_each_observation_and_lives_what_led_to_it(agent, peer):
    client = agent()
    client.configure()
    client.activate()
    predicted, surprise = peer.hear(JointState, "agent/prediction"), peer.hear(Float64, "agent/surprise")
    status, diagnostics = peer.hear(String, "agent/status"), peer.hear(DiagnosticArray, "/diagnostics")
    plant = Plant(peer)
    plant.settle()
    stamps = []
    for _ in range(20):
        plant.advance()
        stamps.append(plant.stamp)
    plant.settle()
    lived, acted = agent.notes("live"), agent.notes("act")
    assert len(acted) == len(plant.heard) == 20 and len(lived) == 19
    # The command answers the observation whose stamp it bears.
    assert [convert.stamp_of(message) for message in plant.heard] == stamps
    np.testing.assert_allclose(plant.heard[-1].position, plant.obs(plant.step)[:6], atol=1e-6)
    np.testing.assert_allclose(acted[0]["goal"], GOAL, atol=1e-6)
    for step, one in enumerate(lived, 1):
        assert one["valid"]
        expected = (plant.obs(step), plant.action(step + 1), plant.obs(step + 1))
        for told, wanted in zip(one["live"], expected, strict=True):
            np.testing.assert_allclose(told, wanted, atol=1e-6)
    np.testing.assert_allclose(agent.notes("begin")[0]["begin"], plant.action(1), atol=1e-6)
    assert len(predicted) == len(surprise) == 19 and surprise[-1].data == 0.5
    peer.until(lambda: convert.json_values(status[-1])["acted"] == 20, "status does not follow")
    told = convert.json_values(status[-1])
    assert told["life"] == {"lived": 19, "invalid": 0}
    assert sum(told["refused"].values()) == 0
    assert told["latency"]["count"] == 20 and told["latency"]["p50_ms"] < 50
    peer.until(lambda: any(s.name == "agent: lifetime" for d in diagnostics for s in d.status), "no diagnostics")


def test_what_is_doubtful_is_counted_and_neither_acted_on_nor_learned_from(agent, peer):
    client = agent()
    client.configure()
    client.activate()
    status = peer.hear(String, "agent/status")
    plant = Plant(peer)
    plant.settle()
    for _ in range(5):
        plant.advance()

    def poisoned(**changes):
        message = convert.observation_message(plant.obs(plant.step + 1), SPEC, plant.stamp + round(SPEC.dt * 1e9))
        for field, value in changes.items():
            setattr(message, field, value)
        return message

    old = plant.state_message()
    plant.advance(state=poisoned(position=[math.nan] * 6))
    plant.advance()
    plant.advance(state=poisoned(velocity=[0.0] * 5))
    plant.advance()
    plant.advance(state=poisoned(name=["stranger", *SPEC.joint_names[1:]]))
    plant.advance()
    plant.states.publish(plant.state_message())
    peer.spin(0.01)
    plant.states.publish(old)
    peer.spin(0.005)
    plant.advance()
    plant.advance(state=False)
    plant.advance()
    plant.advance(applied=False)
    plant.advance()
    plant.advance()
    plant.settle()
    plant.advance(late=0.15)
    plant.settle()

    peer.until(lambda: convert.json_values(status[-1])["refused"]["stale"] == 1, "it took what was stale")
    refused = {k: v for k, v in convert.json_values(status[-1])["refused"].items() if v}
    # A gap follows each observation that was not there: three refused, one never sent.
    assert refused == {
        "not_finite": 1, "size": 1, "names": 1, "duplicate": 1, "out_of_order": 1,
        "gap": 4, "unpaired": 1, "stale": 1,
    }  # fmt: skip
    lived = agent.notes("live")
    assert sum(not one["valid"] for one in lived) == 5
    for one in lived:
        before, applied, after = (np.array(values) for values in one["live"])
        step = round((after[0]) * 1000)
        if one["valid"]:
            np.testing.assert_allclose(before, plant.obs(step - 1), atol=1e-6)
            np.testing.assert_allclose(applied, plant.action(step), atol=1e-6)
    # Sent were 18 steps; no command answers the three poisoned, the missing and the stale one.
    assert len(plant.heard) == plant.step - 5 == len(agent.notes("act"))


def test_without_a_recent_target_it_does_not_act_but_goes_on_living(agent, peer):
    client = agent(**{"target.max_age": 0.1})
    client.configure()
    client.activate()
    plant = Plant(peer)
    plant.settle()
    for _ in range(4):
        plant.advance(target=False)
    plant.settle()
    assert not plant.heard
    for _ in range(4):
        plant.advance()
    for _ in range(10):
        plant.advance(target=False)
    plant.settle()
    assert 8 <= len(plant.heard) <= 10
    assert len(agent.notes("live")) == 17


def test_a_state_is_saved_while_the_loop_goes_on_and_the_next_life_starts_from_it(agent, peer, tmp_path):
    folder = tmp_path / "state"
    client = agent(state=str(folder))
    client.configure()
    save = peer.node.create_client(Trigger, "agent/save")
    assert save.wait_for_service(timeout_sec=10)
    early = save.call_async(Trigger.Request())
    peer.until(early.done, "no answer")
    assert (early.result().success, early.result().message) == (False, "nothing was lived yet")
    client.activate()
    plant = Plant(peer)
    plant.settle()
    for _ in range(5):
        plant.advance()
    answer = save.call_async(Trigger.Request())
    during = len(plant.heard)
    while not answer.done():
        plant.advance()
    # The notebook takes 0.3 s to save, which is 15 periods.
    assert len(plant.heard) - during >= 10
    assert (answer.result().success, answer.result().message) == (True, "0" * 64)
    steps = json.loads((folder / "life.json").read_text())["steps"]
    assert steps >= 4
    client.deactivate()

    following = agent(restore=str(folder))
    assert following.state() in ("inactive", "unconfigured")


def test_a_restored_life_goes_on_where_it_was(agent, peer, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "life.json").write_text('{"steps": 4321}')
    client = agent(restore=str(tmp_path / "state"))
    client.configure()
    client.activate()
    plant = Plant(peer)
    plant.settle()
    for _ in range(3):
        plant.advance()
    plant.settle()
    assert agent.notes("begin")[0]["steps"] == 4321


def test_a_state_that_is_not_there_is_a_failure_with_a_reason_and_the_node_lives_on(agent, tmp_path):
    client = agent(restore=str(tmp_path / "nowhere"))
    with pytest.raises(DeviceError, match="node 'agent' did not configure; it is unconfigured"):
        client.configure()
    assert client.state() == "unconfigured"
    (log,) = tmp_path.glob("node*.log")
    assert f"SnapshotError: no life in {tmp_path / 'nowhere'}" in log.read_text()


def test_an_invalid_request_is_refused_and_the_node_lives_on(agent):
    client = agent()
    with pytest.raises(DeviceError, match="did not activate; it is unconfigured"):
        client.activate()
    client.configure()
    assert client.state() == "inactive"


def test_an_agent_that_fails_stops_acting_and_keeps_the_state_that_was_saved(agent, peer, tmp_path):
    folder = tmp_path / "state"
    client = agent(state=str(folder), seed=6)
    client.configure()
    client.activate()
    status = peer.hear(String, "agent/status")
    plant = Plant(peer)
    plant.settle()
    for _ in range(15):
        plant.advance()
    plant.settle()
    assert client.state() == "inactive"
    assert len(plant.heard) == 7
    peer.until(lambda: convert.json_values(status[-1])["trouble"], "it does not say what happened")
    assert convert.json_values(status[-1])["trouble"] == "RuntimeError: the planner fell over"
    assert not folder.exists()
