"""What a recording of any task says of a robot: its error while it is made, and its track afterwards."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]
pytest.importorskip("rclpy")

from rclpy.serialization import serialize_message

from wm_robot.robots import load_spec
from wm_robot.tasks import TaskError
from wm_robot_demo.load_session import read_robot_recording
from wm_robot_ros.middleware import convert
from wm_robot_ros.nodes.status_summary import StatusSummary

PERIOD = 20_000_000
START = 100 * 10**9


def make_topics(robot: str, task: str, steps: int) -> tuple[dict, np.ndarray]:
    """Messages of a robot at random positions, and its errors."""
    from wm_robot.streams.goal_message import GoalDecoder

    spec, rng = load_spec(robot), np.random.default_rng(0)
    chosen = spec.find_task(task)
    decoder = GoalDecoder(spec, chosen) if chosen.goal else None
    obs = rng.uniform(-0.1, 0.1, (steps, spec.obs_dim)).astype(np.float32)
    action = rng.uniform(spec.action_low, spec.action_high, (steps, spec.action_dim)).astype(np.float32)
    goal = rng.uniform(0.1, 0.2, (steps, chosen.goal))
    gripper = rng.uniform(-1, 1, (steps, 3))
    topics: dict[str, list] = {
        "joint_states": [],
        "applied_command": [],
        "target": [],
        "ground_truth/gripper": [],
    }
    for step in range(steps):
        stamp = START + step * PERIOD
        topics["joint_states"].append(convert.make_observation_message(obs[step], spec, stamp))
        topics["applied_command"].append(convert.make_action_message(action[step], spec, stamp))
        if decoder:
            topics["target"].append(convert.make_goal_message(goal[step], decoder, stamp))
        topics["ground_truth/gripper"].append(convert.make_point_message(gripper[step], stamp))
    errors = TaskError(spec, chosen).measure(obs, action, obs, goal, gripper)
    return topics, errors


@pytest.mark.parametrize(
    ("robot", "task"),
    [("so101", "reach"), ("so101", "track_joints"), ("so101", "hold"), ("cartpole", "balance")],
)
def test_error_and_track_are_those_of_the_task(robot, task):
    spec = load_spec(robot)
    topics, errors = make_topics(robot, task, 5)
    summary = StatusSummary(spec, spec.find_task(task))
    for step in range(5):
        for name, messages in topics.items():
            if messages:
                summary.add_message(f"/one/{name}", serialize_message(messages[step]))
        said = summary.summarise_robot("one")
        assert (
            said["error"] == pytest.approx(errors[step], abs=1e-6) and said["stamp"] == START + step * PERIOD
        )
    event = {"event": "start", "stamp": START, "world": {"payload": 0.0}}
    recorded = {f"/one/{name}": [(0.0, m) for m in messages] for name, messages in topics.items() if messages}
    recorded["/one/ground_truth/event"] = [(0.0, SimpleNamespace(data=json.dumps(event)))]
    track = read_robot_recording(SimpleNamespace(topics=recorded), "one", spec, task)
    assert track.error == pytest.approx(errors, abs=1e-6)
    assert track.target.shape == (5, spec.find_task(task).goal) and track.applied.shape == (
        4,
        spec.action_dim,
    )


def test_a_robot_that_has_not_published_has_no_error():
    spec = load_spec("cartpole")
    assert "error" not in StatusSummary(spec, spec.find_task("balance")).summarise_robot("one")
    assert "error" not in StatusSummary(spec, None).summarise_robot("one")
