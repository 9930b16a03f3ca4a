"""What an agent has done for lives by a process beside it: evaluate and assimilate, with progress and cancel."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn, pytest.mark.timeout(240)]

from tests.ros.built import need_messages

need_messages()

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from wm_robot_msgs.action import Assimilate, Evaluate

from tests.ros.small_life import BASE, STEPS, newborn, recorded_arm
from wm_robot.model.backend import Prediction
from wm_robot.store.store import Store
from wm_robot.types import Step
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.lifecycle import LifecycleClient
from wm_robot_ros.state_api.worker import MonitoredBackend


class Idle:
    """An agent that is configured and does not act, and a client of its actions."""

    def __init__(self, start, peer, store):
        self.peer = peer
        self.process = start(
            make_node_command(
                "agent_node", {"base": str(BASE), "save_to": str(store), "initial_state": str(store)}
            )
        )
        LifecycleClient(peer.node, peer.executor, "agent").configure_node(100.0)

    def ask(self, kind, action, **goal):
        client = ActionClient(self.peer.node, kind, f"agent/{action}")
        self.peer.until(client.server_is_ready, f"no action {action}")
        feedback = []
        sent = client.send_goal_async(
            kind.Goal(**goal), feedback_callback=lambda message: feedback.append(message.feedback)
        )
        self.peer.until(sent.done, "the goal was not answered")
        assert sent.result().accepted
        return sent.result(), feedback

    def answer(self, handle):
        answer = handle.get_result_async()
        self.peer.until(answer.done, "no result", timeout=100)
        return answer.result()


def children_of(pid):
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if (text := read(path)) and int(text.rpartition(")")[2].split()[1]) == pid
    ]


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_filled_gap_is_no_small_error():
    class Exact:
        def update(self, state, step):
            return Prediction(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)), state

    base = SimpleNamespace(model=SimpleNamespace(change_std=torch.ones(2)))
    steps = []
    backend = MonitoredBackend(Exact(), base, lambda: steps.append(1))
    obs, action = np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32)
    step = Step(obs, action, np.array([[3.0, 0.0]], np.float32), np.ones(1, np.float32))
    backend.update(None, replace(step, measured=np.array([[1.0, 0.0]], np.float32)))
    assert backend.compute_errors()["step_error"] == 9.0
    backend.update(None, step)
    assert backend.compute_errors()["step_error"] == (9.0 + 4.5) / 2 and len(steps) == 2


def test_lives_are_evaluated_and_assimilated_beside_the_agent(start, peer, tmp_path):
    store, theirs = newborn(tmp_path), recorded_arm(tmp_path, "theirs")
    own, kept = recorded_arm(tmp_path, "own", seed=6), Store(store)
    kept.create_branch("twin", "main")
    agent, before = Idle(start, peer, store), Store(store).read_branches()

    handle, feedback = agent.ask(Evaluate, "evaluate", recordings=[str(theirs)], references=["main", "twin"])
    result = agent.answer(handle).result
    assert result.success and result.steps == STEPS, result.message
    assert [each.digest for each in result.snapshots] == [before["main"], before["twin"]]
    names = [each.name for each in result.metrics]
    assert names == ["surprise", "step_error", "ahead_error"] * 2
    values = [each.value for each in result.metrics]
    # The same life in the same world, twice.
    assert values[:3] == values[3:] and [each.unit for each in result.metrics[:2]] == ["nat", "1"]
    assert feedback and [one.progress for one in feedback] == sorted(one.progress for one in feedback)
    assert kept.read_branches() == before, "evaluating changed a life"

    goal = {
        "recordings": [str(theirs)],
        "own_recordings": [str(own)],
        "reference": "main",
        "branch": "taught",
    }
    handle, _ = agent.ask(Assimilate, "assimilate", **goal)
    result = agent.answer(handle).result
    told = {each.name: each.value for each in result.metrics}
    assert set(told) == {"own_before", "own_after", "other_before", "other_after"}, result.message
    better = told["own_after"] <= 1.02 * told["own_before"] and told["other_after"] < told["other_before"]
    assert result.success is better and ("taught" in kept.read_branches()) is better
    if better:
        assert kept.read_manifest("taught").parents == (before["main"],) == (kept.resolve("main"),)
        assert result.snapshot.digest == kept.resolve("taught") and result.snapshot.steps == result.steps
    else:
        assert "did not improve the state" in result.message and not result.snapshot.digest


def test_what_is_cancelled_ends_its_process_and_keeps_nothing(start, peer, tmp_path):
    store, theirs = newborn(tmp_path), recorded_arm(tmp_path)
    agent, before = Idle(start, peer, store), Store(store).read_branches()
    goal = {
        "recordings": [str(theirs)] * 20,
        "own_recordings": [str(theirs)],
        "reference": "main",
        "branch": "taught",
    }
    handle, feedback = agent.ask(Assimilate, "assimilate", **goal)
    peer.until(lambda: feedback and feedback[-1].progress > 0, "no progress", timeout=100)
    assert children_of(agent.process.pid)
    cancelled = handle.cancel_goal_async()
    answer = agent.answer(handle)
    assert cancelled.result().goals_canceling and answer.status == GoalStatus.STATUS_CANCELED
    assert not answer.result.success and answer.result.message == "cancelled"
    assert not children_of(agent.process.pid) and Store(store).read_branches() == before
    # And the next may begin; what it is asked for is not there.
    handle, _ = agent.ask(
        Evaluate, "evaluate", recordings=[str(tmp_path / "nothing.mcap")], references=["main"]
    )
    answer = agent.answer(handle)
    assert answer.status == GoalStatus.STATUS_ABORTED and "does not exist" in answer.result.message
