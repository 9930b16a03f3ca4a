import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from wm_robot.errors import DeviceError
from wm_robot.robots import load_spec
from wm_robot.spec import Task
from wm_robot.store.store import Store
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.lifecycle import LifecycleClient

SPEC = load_spec("arm")
FAKE = str(Path(__file__).with_name("fake_agent.py"))
GOAL = np.float32([0.3, 0.1, 0.2])
PERIOD = round(SPEC.dt * 1e9)


class Plant:
    """Plays the plant to an agent node, step by step, each after the answer to the one before.

    Stamps move on by a period a step, whatever time it takes: a busy machine changes nothing.
    """

    def __init__(self, peer, target_type=PointStamped):
        self.peer = peer
        self.states = peer.speak(JointState, "joint_states")
        self.commands = peer.speak(JointState, "applied_command")
        self.targets = peer.speak(target_type, "target")
        self.heard = peer.hear(JointState, "joint_command")
        self.status = peer.hear(String, "agent/status")
        peer.until(lambda: peer.node.count_publishers("joint_command") and self.status, "no agent")
        self.step = 0
        self.stamp = peer.now()

    def obs(self, step):
        return np.float32(np.arange(12) / 100 + step / 1000)

    def action(self, step):
        return np.float32(np.arange(6) / 10 + step / 1000)

    def state_message(self, step=None, **changes):
        message = convert.make_observation_message(
            self.obs(self.step if step is None else step), SPEC, self.stamp
        )
        for field, value in changes.items():
            setattr(message, field, value)
        return message

    def begin_step(self, *, applied=True, target=True):
        self.step += 1
        self.stamp += PERIOD
        if target:
            self.targets.publish(convert.make_point_message(GOAL, self.stamp))
        if applied:
            self.commands.publish(convert.make_action_message(self.action(self.step), SPEC, self.stamp))
        # Topics keep no order among one another.
        self.peer.spin(0.02 if self.step < 2 else 0.005)

    def advance(self, *, answered=True, **parts):
        """One period, and the agent's answer to it."""
        self.begin_step(**parts)
        heard = len(self.heard)
        self.states.publish(self.state_message())
        if answered:
            self.peer.until(lambda: len(self.heard) > heard, f"step {self.step} was not answered")
        else:
            self.peer.spin(0.05)

    def told(self):
        return convert.decode_json_message(self.status[-1])

    def until_counted(self, name, count):
        self.peer.until(
            lambda: self.told()["rejected"][name] == count, f"{name} was not counted {count} times"
        )


def saver(peer):
    """Asks the agent to save; the answer comes later."""
    client = peer.node.create_client(Trigger, "agent/save")
    assert client.wait_for_service(timeout_sec=10)
    return lambda: client.call_async(Trigger.Request())


@pytest.fixture
def agent(start, peer, tmp_path, environment):
    """Starts an agent with a notebook for a life."""

    def begin(*, thinks=0.0, **parameters):
        environment.update(NOTEBOOK=str(tmp_path / "notebook"), THINKS=str(thinks))
        patient = {"observation.max_age": 10.0, "target.max_age": 3600.0, "status_rate": 50.0}
        command = make_node_command("agent_node", {**patient, **parameters})
        begin.process = start([sys.executable, FAKE, *command[3:]])
        return LifecycleClient(peer.node, peer.executor, "agent")

    def notes(kind):
        lines = (tmp_path / "notebook").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        # All before the last birth was warm-up, and a check of the state to restore.
        born = max(i for i, note in enumerate(found) if "begin" in note)
        return [note for note in found[born:] if not kind or kind in note]

    begin.notes = notes
    return begin


def test_its_life_cycle_is_driven_from_another_process(agent, peer, tmp_path):
    client = agent(save_to=str(tmp_path / "state"))
    assert client.read_state() == "unconfigured"
    client.configure_node()
    assert client.read_state() == "inactive"
    plant = Plant(peer)
    for _ in range(3):
        plant.advance(answered=False)
    assert not plant.heard, "an inactive agent acts"
    client.activate_node()
    for _ in range(10):
        plant.advance()
    client.deactivate_node()
    assert json.loads((tmp_path / "state" / "life.json").read_text())["steps"] == 9
    for _ in range(3):
        plant.advance(answered=False)
    assert len(plant.heard) == 10, "a deactivated agent acts"
    client.clean_up_node()
    assert client.read_state() == "unconfigured"
    # And round again: with the life that was saved, and not with a newborn one.
    client.configure_node()
    client.activate_node()
    assert client.read_state() == "active"
    # Its topics are new ones, which are found in their own time.
    for _ in range(100):
        plant.advance(answered=False)
        if len(plant.heard) > 10:
            break
    assert len(plant.heard) > 10
    assert agent.notes("begin")[0]["steps"] == 9


def test_a_transition_that_its_state_does_not_allow_is_refused_and_harms_nothing(agent, peer, tmp_path):
    client = agent()
    for ask, verb in ((client.activate_node, "activate"), (client.deactivate_node, "deactivate")):
        with pytest.raises(DeviceError, match=f"did not {verb}; it is unconfigured"):
            ask()
    requests = peer.node.create_client(ChangeState, "agent/change_state")
    assert requests.wait_for_service(timeout_sec=10)
    for nonsense in (Transition(id=99), Transition(label="nonsense")):
        answer = requests.call_async(ChangeState.Request(transition=nonsense))
        peer.until(answer.done, f"no answer to {nonsense}")
        assert not answer.result().success
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    plant.advance()
    for ask, verb in ((client.configure_node, "configure"), (client.clean_up_node, "clean up")):
        with pytest.raises(DeviceError, match=f"did not {verb}; it is active"):
            ask()
    plant.advance()
    (log,) = tmp_path.glob("node*.log")
    assert log.read_text().count("[ERROR] [") >= 5, "each is logged, but for the one without a number"


def test_a_life_on_disk_is_not_replaced_by_a_newborn(agent, tmp_path):
    state = tmp_path / "state"
    values = {"step": np.array([3], np.int64)}
    Store(state).save(values, base_digest="b" * 64, spec_digest="c" * 64)
    client = agent(save_to=str(state))
    with pytest.raises(DeviceError, match="did not configure"):
        client.configure_node()
    (log,) = tmp_path.glob("node*.log")
    assert "Write initial_state:=" in log.read_text() and "to continue it" in log.read_text()


def test_two_saves_at_once_are_one_after_the_other(agent, peer, tmp_path):
    client = agent(save_to=str(tmp_path / "state"))
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(5):
        plant.advance()
    save = saver(peer)
    answer = save()
    peer.spin(0.1)
    # The notebook takes 0.3 s to save, and complains about a second save meanwhile.
    client.deactivate_node()
    peer.until(answer.done, "no answer")
    assert answer.result().success
    assert json.loads((tmp_path / "state" / "life.json").read_text())["steps"] == 4
    assert plant.told()["fault"] == ""


def test_it_acts_on_each_observation_and_lives_what_led_to_it(agent, peer):
    client = agent()
    client.configure_node()
    client.activate_node()
    predicted, surprise = peer.hear(JointState, "agent/prediction"), peer.hear(Float64, "agent/surprise")
    diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
    plant = Plant(peer)
    stamps = []
    for _ in range(20):
        plant.advance()
        stamps.append(plant.stamp)
    peer.until(lambda: plant.told()["lifetime"]["num_steps"] == 19, "it does not live")
    lived, acted = agent.notes("learn"), agent.notes("act")
    assert len(acted) == len(plant.heard) == 20 and len(lived) == 19
    # The command answers the observation whose stamp it bears.
    assert [convert.read_stamp(message) for message in plant.heard] == stamps
    np.testing.assert_allclose(plant.heard[-1].position, plant.obs(plant.step)[:6], atol=1e-6)
    np.testing.assert_allclose(acted[0]["goal"], GOAL, atol=1e-6)
    for step, one in enumerate(lived, 1):
        assert one["valid"]
        expected = (plant.obs(step), plant.action(step + 1), plant.obs(step + 1))
        for told, wanted in zip(one["learn"], expected, strict=True):
            np.testing.assert_allclose(told, wanted, atol=1e-6)
    # It acts before it lives, so it is told what was applied on the way to what it sees.
    assert acted[0]["applied"] is None
    for step, one in enumerate(acted[1:], 2):
        np.testing.assert_allclose(one["applied"], plant.action(step), atol=1e-6)
    np.testing.assert_allclose(agent.notes("begin")[0]["begin"], plant.action(1), atol=1e-6)
    told = plant.told()
    assert told["lifetime"] == {"num_steps": 19, "num_valid": 19, "num_invalid": 0}
    assert sum(told["rejected"].values()) == 0
    assert told["num_actions"] == told["latency"]["count"] == 20
    peer.until(lambda: len(predicted) == len(surprise) == 19, "predictions are missing")
    np.testing.assert_allclose(
        convert.decode_observation_message(predicted[-1], SPEC).values, plant.obs(20), atol=1e-6
    )
    assert convert.read_stamp(predicted[-1]) == stamps[-1] and surprise[-1].data == 0.5
    peer.until(
        lambda: any(s.name == "agent: lifetime" for d in diagnostics for s in d.status), "no diagnostics"
    )


def test_it_acts_before_it_lives_what_came_of_the_action_before(agent, peer):
    client = agent()
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(4):
        plant.advance()
    peer.until(lambda: len(agent.notes("learn")) == 3, "it does not live")
    kinds = [next(k for k in ("act", "learn") if k in note) for note in agent.notes("")[1:]]
    assert kinds == ["act", "act", "learn", "act", "learn", "act", "learn"]


@pytest.mark.alone
@pytest.mark.parametrize("thinks, late", [(0.0, False), (0.05, True)])
def test_it_hurries_where_a_whole_step_does_not_fit_before_the_next_observation(agent, peer, thinks, late):
    client = agent(thinks=thinks)
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(6):
        plant.advance()
    peer.until(lambda: plant.told()["lifetime"]["num_steps"] == 5, "it does not live")
    assert [note["hurry"] for note in agent.notes("learn")] == [late] * 5
    peer.until(lambda: plant.told()["degraded_steps"] == 5 * late, "it is not told")


def test_an_agent_that_no_longer_acts_waits_and_does_not_spin(agent, peer):
    client = agent(**{"realtime.priority": 1})
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    plant.advance()
    client.deactivate_node()

    def used():
        fields = Path(f"/proc/{agent.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used()
    peer.spin(1.0)
    assert used() - before < 0.5


def test_what_was_before_its_birth_is_not_its_experience(agent, peer):
    client = agent()
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    # Nobody says what the motors do, so it cannot be born.
    for _ in range(3):
        plant.advance(applied=False, answered=False)
    for _ in range(4):
        plant.advance()
    peer.until(lambda: plant.told()["lifetime"]["num_steps"] == 3, "it does not live")
    assert plant.told()["lifetime"] == {"num_steps": 3, "num_valid": 3, "num_invalid": 0}
    np.testing.assert_allclose(agent.notes("learn")[0]["learn"][0], plant.obs(4), atol=1e-6)


def test_what_is_doubtful_is_counted_and_neither_acted_on_nor_learned_from(agent, peer):
    client = agent()
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(5):
        plant.advance()
    bad = {
        "not_finite": {"position": [math.nan] * 6},
        "size": {"velocity": [0.0] * 5},
        "names": {"name": ["stranger", *SPEC.joint_names[1:]]},
    }
    for name, changes in bad.items():
        plant.begin_step()
        plant.states.publish(plant.state_message(**changes))
        plant.until_counted(name, 1)
        plant.advance()
    # Again what was sent last; then what was sent before it; then one from long ago, and one never sent.
    plant.states.publish(plant.state_message(step=plant.step))
    plant.until_counted("duplicate", 1)
    plant.stamp -= PERIOD
    plant.states.publish(plant.state_message(step=plant.step - 1))
    plant.until_counted("out_of_order", 1)
    plant.stamp += PERIOD
    plant.advance()
    plant.begin_step()
    plant.advance()
    # The command is lost, and the observation is not: it is acted on, and not learned from.
    plant.advance(applied=False)
    plant.advance()
    plant.advance()
    peer.until(lambda: len(agent.notes("learn")) == plant.step - 5, "it does not live")
    peer.until(lambda: plant.told()["lifetime"]["num_valid"] == plant.step - 10, "it does not tell")

    refused = {name: count for name, count in plant.told()["rejected"].items() if count}
    # A gap follows each observation that was not there: three refused, one never sent.
    once = ("not_finite", "size", "names", "duplicate", "out_of_order", "unpaired")
    assert refused == {**dict.fromkeys(once, 1), "gap": 4}
    lived = agent.notes("learn")
    assert sum(not one["valid"] for one in lived) == 5 == plant.told()["lifetime"]["num_invalid"]
    for one in lived:
        before, applied, after = (np.array(values) for values in one["learn"])
        step = round(float(after[0]) * 1000)
        if one["valid"]:
            np.testing.assert_allclose(before, plant.obs(step - 1), atol=1e-6)
            np.testing.assert_allclose(applied, plant.action(step), atol=1e-6)
    # No command answers the three poisoned ones and the one never sent.
    assert len(plant.heard) == plant.step - 4 == len(agent.notes("act"))


def test_an_intervention_is_reported_to_the_agent_once(agent, peer):
    client = agent()
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    interventions = peer.speak(String, "plant/intervention")
    for _ in range(3):
        plant.advance()
    peer.until(lambda: len(agent.notes("learn")) == 2, "it does not live")
    interventions.publish(
        convert.make_json_message({"stamp": plant.stamp + PERIOD, "mode": "hold", "violations": []})
    )
    peer.spin(0.1)
    for _ in range(2):
        plant.advance()
    peer.until(lambda: len(agent.notes("learn")) == 4, "it does not live")
    assert [one["intervention"] for one in agent.notes("learn")] == [False, False, True, False]


def test_it_says_at_once_that_it_ends(agent, peer):
    client = agent(status_rate=2.0)
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    peer.until(lambda: plant.told()["active"], "it does not say that it acts")
    plant.status.clear()
    began = time.monotonic()
    agent.process.stop_process(kill_timeout=5)
    peer.until(lambda: plant.status and not plant.told()["active"], "it does not say that it ends")
    assert time.monotonic() - began < 4


def test_it_writes_down_every_step(agent, peer, tmp_path):
    log = tmp_path / "log.ndjson"
    client = agent(log=str(log))
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    stamps = []
    for _ in range(5):
        plant.advance()
        stamps.append(plant.stamp)
    peer.until(lambda: len(agent.notes("learn")) == 4, "it does not live")
    assert agent.process.stop_process(kill_timeout=5) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["stamp"] for line in lines] == stamps
    assert all(line["act_ms"] > 0 and "latency_ms" in line for line in lines)
    # The first has nothing to live yet.
    assert [line.get("surprise") for line in lines] == [None, 0.5, 0.5, 0.5, 0.5]


def test_what_comes_too_late_is_counted_and_not_acted_on(agent, peer):
    client = agent(**{"observation.max_age": 1.0})
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(3):
        plant.advance()
    late = plant.state_message()
    late.header.stamp = convert.make_time_message(plant.stamp + PERIOD)
    peer.spin(1.2)
    plant.states.publish(late)
    plant.until_counted("stale", 1)
    plant.stamp = peer.now()
    plant.advance()
    assert len(plant.heard) == 4
    peer.until(
        lambda: plant.told()["lifetime"] == {"num_steps": 2, "num_valid": 2, "num_invalid": 1},
        "the gap was learned from",
    )


def test_without_a_recent_target_it_does_not_act_but_goes_on_living(agent, peer):
    client = agent(**{"target.max_age": 0.1})
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(4):
        plant.advance(target=False, answered=False)
    assert not plant.heard
    for _ in range(4):
        plant.advance()
    # An older one and one in another frame change nothing.
    for reason, late, frame in (("out_of_order", PERIOD, "base_link"), ("frame", 0, "camera")):
        message = convert.make_point_message(GOAL + 1, plant.stamp - late)
        message.header.frame_id = frame
        plant.targets.publish(message)
        plant.until_counted(reason, 1)
    # A target holds for five periods.
    for step in range(10):
        plant.advance(target=False, answered=step < 5)
    assert len(plant.heard) == 9
    assert all(np.allclose(one["goal"], GOAL) for one in agent.notes("act"))
    peer.until(lambda: plant.told()["lifetime"]["num_steps"] == 17, "it does not live")


@pytest.mark.parametrize(
    ("task", "bad", "reason"),
    [
        (Task(reward="hold", goal=6), {"position": [9.0] * 6}, "range"),
        (
            Task(reward="track_joints", goal=1, parameters={"joints": ["elbow_pitch"]}),
            {"name": ["a"]},
            "names",
        ),
        (Task(reward="reach", goal=3, goal_type="Float64MultiArray"), {"data": [0.1, 0.2]}, "size"),
    ],
    ids=["all joints", "one joint", "numbers"],
)
def test_goals_arrive_in_the_message_of_the_task(agent, peer, tmp_path, task, bad, reason):
    robot = tmp_path / "robot.yaml"
    model = str(SPEC.folder / SPEC.model)
    spec = replace(SPEC, tasks={"reach": SPEC.find_task("reach"), "mine": task}, model=model)
    robot.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict()))))
    client = agent(robot=str(robot), task="mine")
    client.configure_node()
    client.activate_node()
    decoder = GoalDecoder(spec, task)
    plant = Plant(peer, convert.GOAL_MESSAGES[decoder.goal_type])
    peer.until(lambda: plant.targets.get_subscription_count(), "no agent takes goals of this type")
    goal = np.float32(np.arange(1, task.goal + 1) / 10)
    for _ in range(4):
        plant.targets.publish(convert.make_goal_message(goal, decoder, plant.stamp + PERIOD))
        plant.advance(target=False)
    message = convert.make_goal_message(goal, decoder, plant.stamp + PERIOD)
    for field, value in bad.items():
        setattr(message, field, value)
    plant.targets.publish(message)
    plant.until_counted(reason, 1)
    plant.advance(target=False)
    assert len(plant.heard) == 5
    assert all(np.allclose(one["goal"], goal) for one in agent.notes("act"))


def test_a_state_is_saved_while_the_loop_goes_on(agent, peer, tmp_path):
    folder = tmp_path / "state"
    client = agent(save_to=str(folder))
    client.configure_node()
    save = saver(peer)
    early = save()
    peer.until(early.done, "no answer")
    assert (early.result().success, early.result().message) == (False, "the agent has not started yet")
    client.activate_node()
    plant = Plant(peer)
    for _ in range(5):
        plant.advance()
    answer = save()
    during = len(plant.heard)
    while not answer.done():
        plant.advance()
    # The notebook takes 0.3 s to save.
    assert len(plant.heard) - during >= 3
    assert (answer.result().success, answer.result().message) == (True, "0" * 64)
    assert json.loads((folder / "life.json").read_text())["steps"] >= 4


def test_it_is_asked_to_save_from_the_command_line(agent, peer, tmp_path, environment):
    client = agent(save_to=str(tmp_path / "state"))
    client.configure_node()
    ask = [sys.executable, "-m", "wm_robot_cli", "state", "save", "agent", "--json"]
    early = subprocess.run(ask, env=environment, capture_output=True, text=True)
    assert early.returncode == 2 and "agent did not save: the agent has not started yet" in early.stderr
    client.activate_node()
    plant = Plant(peer)
    for _ in range(5):
        plant.advance()
    with subprocess.Popen(ask, env=environment, stdout=subprocess.PIPE, text=True) as asked:
        while asked.poll() is None:
            plant.advance()
        assert json.loads(asked.stdout.read()) == {"snapshot": "0" * 64}
    nobody = subprocess.run(
        [*ask[:4], "save", "nobody", "--timeout", "0.5"], env=environment, capture_output=True
    )
    assert nobody.returncode == 2 and b"no node offers nobody/save" in nobody.stderr


def test_it_saves_by_itself_now_and_then(agent, peer, tmp_path):
    folder = tmp_path / "state"
    client = agent(save_to=str(folder), save_every=0.5)
    client.configure_node()
    client.activate_node()
    plant, steps = Plant(peer), list[int]()
    while len(set(steps)) < 2 and plant.step < 500:
        plant.advance()
        if (folder / "life.json").exists():
            steps.append(json.loads((folder / "life.json").read_text())["steps"])
    assert len(set(steps)) == 2 and max(steps) > 4


def test_a_restored_life_goes_on_where_it_was(agent, peer, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "life.json").write_text('{"steps": 4321}')
    client = agent(initial_state=str(tmp_path / "state"))
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(3):
        plant.advance()
    assert agent.notes("begin")[0]["steps"] == 4321


def test_a_state_that_is_not_there_is_a_failure_with_a_reason_and_the_node_lives_on(agent, tmp_path):
    client = agent(initial_state=str(tmp_path / "nowhere"))
    with pytest.raises(DeviceError, match="node 'agent' did not configure; it is unconfigured"):
        client.configure_node()
    assert client.read_state() == "unconfigured"
    (log,) = tmp_path.glob("node*.log")
    assert f"SnapshotError: no life in {tmp_path / 'nowhere'}" in log.read_text()


def test_an_agent_that_cannot_keep_up_takes_the_newest_and_still_ends_when_asked(agent, peer, tmp_path):
    client = agent(thinks=0.03, save_to=str(tmp_path / "state"))
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for _ in range(100):
        plant.begin_step()
        plant.states.publish(plant.state_message())
    assert 10 < len(plant.heard) < 60
    peer.until(lambda: convert.read_stamp(plant.heard[-1]) == plant.stamp, "it works through what is old")
    # Asked in the middle of it, it ends within a step, and saves.
    for _ in range(10):
        plant.begin_step()
        plant.states.publish(plant.state_message())
    began = time.monotonic()
    assert agent.process.stop_process(kill_timeout=5) == 0
    assert time.monotonic() - began < 3
    assert (tmp_path / "state" / "life.json").exists()


def test_an_invalid_request_is_refused_and_the_node_lives_on(agent):
    client = agent()
    with pytest.raises(DeviceError, match="did not activate; it is unconfigured"):
        client.activate_node()
    client.configure_node()
    assert client.read_state() == "inactive"


def test_an_agent_that_fails_stops_acting_and_keeps_the_state_that_was_saved(agent, peer, tmp_path):
    folder = tmp_path / "state"
    client = agent(save_to=str(folder), seed=6)
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for step in range(9):
        plant.advance(answered=step < 7)
    assert client.read_state() == "inactive"
    assert len(plant.heard) == 7
    peer.until(lambda: plant.told()["fault"], "it does not say what happened")
    assert plant.told()["fault"] == "RuntimeError: the planner fell over"
    assert not folder.exists()
    # Nor does asking for it save a life that is in doubt; and who goes on, goes on from birth.
    save = saver(peer)
    answer = save()
    peer.until(answer.done, "no answer")
    assert not answer.result().success and "may be damaged" in answer.result().message
    client.activate_node()
    plant.advance()
    assert agent.notes("begin")[0]["steps"] == 0
    assert len(agent.notes("act")) == 1
    assert agent.process.stop_process(kill_timeout=5) == 0


def test_an_agent_that_stopped_by_itself_says_so_with_its_exit_code(agent, peer):
    client = agent(seed=2)
    client.configure_node()
    client.activate_node()
    plant = Plant(peer)
    for step in range(5):
        plant.advance(answered=step < 3)
    peer.until(lambda: plant.told()["fault"], "it does not say what happened")
    assert agent.process.stop_process(kill_timeout=5) == 1
