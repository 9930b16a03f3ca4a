"""The process that controls a robot has no torch in it, does not grow, and says so when it cannot go on."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.learn
pytest.importorskip("torch")

from tests.agent.exports import PLANNER, POINT
from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import load_functions
from wm_robot.control.control_loop import make_local_loop
from wm_robot.errors import InferenceError
from wm_robot.model.base import load_base
from wm_robot.safety.modes import Mode
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedRobot

PROCESS = Path(__file__).with_name("without_torch.py")
SPEC = replace(POINT, safety=replace(POINT.safety, acceleration={"x": 60.0}, surprise_threshold=1e6))
START = np.float32([0.4])
STEPS_OF_KIB = 500 / 32
"""Steps lived for each KiB that the process may grow."""


@pytest.fixture
def folder(exported):
    return exported[0]


def agent(folder, graphs=True, **options) -> Agent:
    base = load_base(folder)
    graphs = load_functions(folder, base) if graphs else None
    return Agent(base, SPEC, task="reach", planner=PLANNER, functions=graphs, **options)


def lived(folder, tmp_path, steps, graphs):
    """What a process of its own says after a life."""
    (tmp_path / "spec.json").write_text(json.dumps(SPEC.to_dict()))
    command = [sys.executable, PROCESS, folder, tmp_path / "spec.json", steps, graphs]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("steps", [1000, pytest.param(4000, marks=pytest.mark.soak)])
def test_a_life_by_graphs_loads_no_torch_and_does_not_grow(folder, tmp_path, steps):
    said, errors = lived(folder, tmp_path, steps, "graphs")
    assert not said["torch"] and said["why"] == "" and errors == ""
    assert said["num_steps"] == steps - steps // 7
    # An allocator takes some 600 KiB at once, at any one step; what grows, grows in most parts.
    assert np.median(np.diff(said["memory"][2:])) <= steps / 8 / STEPS_OF_KIB, said["memory"]


def test_without_graphs_it_runs_with_torch_and_says_so_in_one_line(folder, tmp_path):
    said, errors = lived(folder, tmp_path, 8, "none")
    assert said["torch"] and said["num_steps"] == 7
    assert errors.count("\n") == 1 and "runs with torch" in errors and "wm-robot export" in errors


def test_why_it_needs_torch(folder):
    assert agent(folder).torch_reason == ""
    base = load_base(folder)
    graphs = load_functions(folder, base)
    given = {"task": "reach", "planner": replace(PLANNER, num_samples=8)}
    assert "another task or planner config" in Agent(base, SPEC, functions=graphs, **given).torch_reason
    given = {"task": "reach", "planner": PLANNER}
    assert (
        "no graph of its state update"
        in Agent(base, SPEC, functions=graphs._replace(backend=None), **given).torch_reason
    )


class Driven:
    """An agent as the controller of a loop."""

    def __init__(self, agent):
        self.agent, self.goal = agent, np.float32([0.1, 0.1, 0.2])

    def act(self, obs):
        return self.agent.act(obs, self.goal)

    def observe(self, obs, applied, next_obs, *, valid, intervention):
        return self.agent.observe(obs, applied, next_obs, valid=valid, intervention=intervention).nll


def spoil(agent, how):
    """Break the life of an agent."""
    name, value = next(iter(agent.state.memory[0].items()))
    spoiled = np.full_like(value, np.nan) if how == "not a number" else value[:, :-1]
    agent._batch._state = agent.state.with_memory(0, **{name: spoiled})


SPOILED = {"not a number": "has no plan", "another shape": "graph 'plan.onnx' failed"}


@pytest.mark.parametrize("how", SPOILED)
def test_the_baseline_takes_over_from_an_agent_that_cannot_go_on(folder, how):
    # A clock that stands still: a busy machine makes no command late.
    driven = Driven(agent(folder))
    loop = make_local_loop(EmulatedRobot(SPEC, START), driven, clock=lambda: 0.0)
    driven.agent.begin(START)
    loop.supervisor.request_arming()
    for _ in range(100):
        if loop.run_period() is Mode.LEARNED:
            break
    for _ in range(20):
        assert loop.run_period() is Mode.LEARNED
    spoil(driven.agent, how)
    loop.run_period()
    assert loop.run_period() is Mode.HOLD
    for _ in range(50):
        assert loop.run_period() is Mode.HOLD
    assert loop.robot.motors.unsafe == 0
    with pytest.raises(InferenceError, match=SPOILED[how]):
        driven.act(loop.robot.read().values)


@pytest.mark.parametrize("graphs", [True, False])
def test_a_life_that_would_break_stays_as_it_was(folder, graphs):
    acting = agent(folder, graphs)
    acting.begin(START)
    obs, big = np.zeros(SPEC.obs_dim, np.float32), np.full(SPEC.obs_dim, np.inf, np.float32)
    acting.observe(obs, START, obs)
    before = acting.state
    with pytest.raises(InferenceError, match="would not be finite after step 1; the lifetime state"):
        acting.observe(obs, START, big)
    assert acting.state is before and np.isfinite(acting.observe(obs, START, obs).nll)
    # What must not be learned from may hold anything.
    acting.observe(obs, START, big, valid=False)
    assert np.isfinite(acting.observe(obs, START, obs).nll)


def test_a_sensor_that_is_no_number_is_named(folder):
    acting = agent(folder)
    acting.begin(START)
    obs = np.zeros(SPEC.obs_dim, np.float32)
    obs[1] = np.nan
    with pytest.raises(InferenceError, match=r"Sensors \['x/velocity'\] are not finite"):
        acting.act(obs, np.zeros(3, np.float32))
