"""What an agent offers for its life, asked for by another process over DDS."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from tests.ros.built import need_messages

need_messages()

from rclpy.action import ActionClient
from wm_robot_msgs.action import Adapt, Evaluate
from wm_robot_msgs.msg import LifetimeStatus, Prediction, Surprise
from wm_robot_msgs.srv import (
    BranchLifetime,
    ListLifetimes,
    ResetLifetime,
    RestoreLifetime,
    SaveLifetime,
)

from tests.ros.test_agent import SPEC, Plant
from wm_robot.store.garbage_collection import collect_garbage
from wm_robot.store.store import Store
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.lifecycle import LifecycleClient

KEEPER = str(Path(__file__).with_name("keeper_agent.py"))


class Robot:
    """An agent that keeps a real store, with the plant that is played to it."""

    def __init__(self, start, peer, store, **more):
        patient = {"observation.max_age": 10.0, "target.max_age": 3600.0, "status_rate": 50.0, **more}
        command = make_node_command(
            "agent_node",
            {**patient, "save_to": str(store), "initial_state": str(store) if store.exists() else ""},
        )
        start([sys.executable, KEEPER, *command[3:]])
        self.peer, self.store = peer, Store(store)
        self.life_cycle = LifecycleClient(peer.node, peer.executor, "agent")
        self.life_cycle.configure_node()
        self.life_cycle.activate_node()
        self.plant = Plant(peer)

    def live(self, steps):
        for _ in range(steps):
            self.plant.advance()

    def lived(self):
        """Steps in its life, as its newest status has them."""
        heard = len(self.plant.status)
        self.peer.until(lambda: len(self.plant.status) > heard + 1, "no status")
        return self.plant.told()["lifetime"]["num_steps"]

    def ask(self, kind, service, /, **request):
        """The answer, while control goes on."""
        client = self.peer.node.create_client(kind, f"agent/{service}")
        self.peer.until(client.service_is_ready, f"no service {service}")
        answer = client.call_async(kind.Request(**request))
        while not answer.done():
            self.plant.advance()
        return answer.result()

    def goal(self, kind, action, /, **goal):
        """A goal that was sent, and what is heard of it."""
        client = ActionClient(self.peer.node, kind, f"agent/{action}")
        self.peer.until(client.server_is_ready, f"no action {action}")
        feedback = []
        sent = client.send_goal_async(
            kind.Goal(**goal), feedback_callback=lambda message: feedback.append(message.feedback)
        )
        self.peer.until(sent.done, "the goal was not answered")
        return sent.result(), feedback

    def result(self, handle):
        answer = handle.get_result_async()
        while not answer.done():
            self.plant.advance()
        return answer.result().result


@pytest.fixture
def robot(start, peer, tmp_path):
    return lambda: Robot(start, peer, tmp_path / "lives")


def test_a_life_is_saved_branched_restored_and_reset_while_it_acts(robot):
    robot = robot()
    early = robot.ask(SaveLifetime, "save_lifetime")
    robot.live(10)
    saved = robot.ask(SaveLifetime, "save_lifetime", pin="ten")
    assert saved.success and not saved.message, saved.message
    store = robot.store
    assert store.read_pins() == {"ten": saved.snapshot.digest}
    assert saved.snapshot.steps == store.read_manifest("ten").steps >= 9 and saved.snapshot.whole
    assert abs(saved.snapshot.created.sec - robot.peer.now() / 1e9) < 60

    robot.live(10)
    branched = robot.ask(BranchLifetime, "branch_lifetime", name="twin")
    assert branched.success and branched.snapshot.steps > saved.snapshot.steps
    assert store.read_branches()["twin"] == branched.snapshot.digest
    again = robot.ask(BranchLifetime, "branch_lifetime", name="twin", reference="ten")
    assert not again.success and "'twin' is there already" in again.message

    robot.live(5)
    before = robot.lived()
    restored = robot.ask(RestoreLifetime, "restore_lifetime", reference="ten")
    assert restored.success and restored.snapshot.digest == saved.snapshot.digest, restored.message
    robot.live(2)
    assert saved.snapshot.steps < robot.lived() < before
    # What it gave up can be gone back to, also after the store was tidied.
    assert store.read_manifest(restored.previous_branch).steps >= before
    collect_garbage(store)
    assert store.load(restored.previous_branch)["step"][0] >= before
    # And what is saved now goes on from there.
    later = robot.ask(SaveLifetime, "save_lifetime")
    assert list(later.snapshot.parents) == [saved.snapshot.digest], later.message

    lost = robot.ask(RestoreLifetime, "restore_lifetime", reference="nobody")
    assert not lost.success and "no lifetime state 'nobody'" in lost.message

    reset = robot.ask(ResetLifetime, "reset_lifetime")
    assert reset.success and reset.previous_branch.startswith("main-"), reset.message
    robot.live(3)
    born_again = robot.ask(SaveLifetime, "save_lifetime")
    assert born_again.success and not born_again.snapshot.parents and born_again.snapshot.steps < before

    listed = robot.ask(ListLifetimes, "list_lifetimes", reference="twin", limit=2)
    assert dict(zip(listed.branches, listed.heads, strict=True)) == store.read_branches()
    assert dict(zip(listed.pins, listed.pinned, strict=True)) == store.read_pins()
    assert [each.digest for each in listed.snapshots] == [
        each.digest for each in store.iterate_lineage("twin", 2)
    ]
    assert len(robot.ask(ListLifetimes, "list_lifetimes").snapshots) == 1
    # Before its first step there was nothing to save, and that was said.
    assert early.success or "the agent has not started yet" in early.message


def test_a_life_of_another_base_is_refused_and_the_present_one_goes_on(robot, tmp_path):
    robot = robot()
    values = {"step": np.array([3], np.int64)}
    robot.store.save(values, base_digest="a" * 64, spec_digest=SPEC.compute_digest(), branch="stranger")
    robot.live(10)
    answer = robot.ask(RestoreLifetime, "restore_lifetime", reference="stranger")
    assert not answer.success and "has base_digest aaaa" in answer.message
    robot.live(5)
    assert robot.lived() > 10 and robot.plant.told()["fault"] == ""


def test_what_it_lives_is_told_with_its_uncertainty(robot, peer):
    robot = robot()
    surprises = peer.hear(Surprise, "agent/surprise_by_channel")
    plans, statuses = peer.hear(Prediction, "agent/plan"), peer.hear(LifetimeStatus, "agent/lifetime")
    peer.until(lambda: peer.node.count_publishers("agent/plan"), "nobody offers plans")
    for _ in range(200):
        robot.plant.advance()
        if surprises and plans and statuses:
            break
    surprise, plan, status = surprises[-1], plans[-1], statuses[-1]
    names = list(SPEC.observation_names)
    assert list(surprise.names) == list(plan.names) == names
    assert list(surprise.units) == ["rad"] * 6 + ["rad/s"] * 6
    np.testing.assert_allclose(surprise.error, [0.0005] * 12, rtol=1e-3)
    assert set(surprise.stddev) == {2.0} and surprise.valid

    step = int(round((plan.header.stamp.sec * 1e9 + plan.header.stamp.nanosec - robot.plant.stamp) / 2e7))
    seen = robot.plant.obs(robot.plant.step + step)
    mean = np.reshape(plan.mean, (plan.horizon, len(names)))
    np.testing.assert_allclose(mean - seen, np.repeat([[0.01], [0.02], [0.03]], 12, 1), atol=1e-5)
    np.testing.assert_allclose(np.reshape(plan.stddev, mean.shape)[:, 0], [1, 2, 3])
    assert plan.horizon == 3 and len(plan.actions) == 3 * 6 and list(plan.action_units) == ["rad"] * 6
    assert plan.step_duration.nanosec == 20_000_000

    assert status.robot == "arm" and status.branch == "main" and status.store.endswith("lives")
    assert status.active and status.learning and status.spec_digest == SPEC.compute_digest()


def test_a_session_of_learning_is_kept_if_its_surprise_does_not_rise(robot, environment):
    environment["SURPRISE"] = "0.99"
    robot = robot()
    robot.live(5)
    handle, feedback = robot.goal(Adapt, "adapt", steps=40, max_surprise_increase=0.0, pin="learned")
    assert handle.accepted
    refused, _ = robot.goal(Adapt, "adapt", steps=40)
    assert not refused.accepted, "two sessions at once"
    result = robot.result(handle)
    assert result.success and result.kept and result.steps >= 40, result.message
    assert result.surprise_last < result.surprise_first
    assert result.after.steps >= result.before.steps + 40
    assert robot.store.read_pins() == {"learned": result.after.digest}
    assert feedback and 0 < feedback[-1].progress <= 1 and feedback[-1].steps <= result.steps
    assert [one.steps for one in feedback] == sorted(one.steps for one in feedback)


def test_a_session_that_makes_it_worse_is_undone(robot, environment):
    environment["SURPRISE"] = "1.05"
    robot = robot()
    robot.live(5)
    handle, _ = robot.goal(Adapt, "adapt", steps=40, max_surprise_increase=0.5)
    result = robot.result(handle)
    assert not result.success and not result.kept and "undone" in result.message
    assert result.surprise_last - result.surprise_first > 0.5
    assert result.after.digest == result.before.digest == robot.store.resolve("main")
    robot.live(3)
    assert robot.lived() < result.before.steps + 20
    # The same with no limit stays.
    handle, _ = robot.goal(Adapt, "adapt", steps=10, max_surprise_increase=math.inf)
    assert robot.result(handle).kept


@pytest.mark.parametrize("undo", [False, True])
def test_a_session_is_cancelled(robot, undo):
    robot = robot()
    robot.live(5)
    handle, feedback = robot.goal(
        Adapt, "adapt", steps=100_000, max_surprise_increase=math.inf, undo_on_cancel=undo
    )
    while not feedback or feedback[-1].steps < 10:
        robot.plant.advance()
    cancelled = handle.cancel_goal_async()
    result = robot.result(handle)
    assert cancelled.result().goals_canceling and not result.success
    assert result.kept is not undo and 10 <= result.steps < 1000
    assert (result.after.digest == result.before.digest) is undo
    # And the next one may begin.
    again, _ = robot.goal(Adapt, "adapt", steps=8, max_surprise_increase=math.inf)
    assert robot.result(again).success


def test_what_cannot_be_asked_for_is_refused_with_a_reason(robot):
    robot = robot()
    robot.live(5)
    handle, _ = robot.goal(Adapt, "adapt", steps=3)
    assert "steps is 3; it must be at least 8" in robot.result(handle).message
    # This agent names no base, so that the process beside it has nothing to load.
    handle, _ = robot.goal(Evaluate, "evaluate", recordings=["/nowhere.mcap"])
    assert "no base in" in robot.result(handle).message


def test_without_the_messages_an_agent_acts_and_says_what_is_missing(start, peer, tmp_path):
    # As where nothing was built: the folder is not there.
    code = (
        "import sys; from wm_robot_ros.state_api import interfaces; from pathlib import Path; "
        f"interfaces.INSTALL_FOLDER = Path({str(tmp_path / 'nothing')!r}); "
        f"sys.argv[0] = {KEEPER!r}; import runpy; runpy.run_path({KEEPER!r}, run_name='__main__')"
    )
    patient = {"observation.max_age": 10.0, "target.max_age": 3600.0, "status_rate": 50.0}
    command = make_node_command("agent_node", patient)
    start([sys.executable, "-c", code, *command[3:]])
    life_cycle = LifecycleClient(peer.node, peer.executor, "agent")
    life_cycle.configure_node()
    life_cycle.activate_node()
    plant = Plant(peer)
    for _ in range(5):
        plant.advance()
    assert len(plant.heard) == 5
    (log,) = tmp_path.glob("node*.log")
    lines = [line for line in log.read_text().splitlines() if "wm_robot_msgs" in line]
    assert len(lines) == 1 and "Build it: make ros" in lines[0]


def test_a_bare_process_finds_the_messages(environment):
    code = (
        "from wm_robot_ros.state_api import interfaces; assert not interfaces.interfaces_unavailable(); "
        "from wm_robot_msgs.msg import Prediction; from rclpy.serialization import serialize_message; "
        "print(len(serialize_message(Prediction(mean=[1.0, 2.0]))))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 8, done.stderr
