"""Robots that ship with sensors beyond their joints are trained by one command, and act while a sensor is lost."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")
pytest.importorskip("mujoco")
pytest.importorskip("dm_control")

from tests.cli.test_third_party_robots import SMALLEST
from wm_robot.agent.agent import Agent
from wm_robot.model.base import load_base
from wm_robot.planning.mppi import MppiConfig
from wm_robot.robots import load_spec
from wm_robot.training.export import base_graphs
from wm_robot_cli.train import train_base
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.task_goals import TaskGoals

PLANNER = MppiConfig(num_samples=8, horizon=4, num_iterations=1, num_elites=4)
LOST = range(4, 8)
"""Steps without a reading of a sensor."""


@pytest.mark.parametrize("name", ["quadruped", "walker", "rover", "arm_wrist", "arm_effort"])
def test_a_sensing_robot_is_trained_by_one_command_and_acts(
    name, tmp_path, monkeypatch, capsys, short_estimate
):
    monkeypatch.chdir(tmp_path)
    # Exports would take most of the time.
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    train_base(name, out=Path("base"), effect_trajectories=2, correction_updates=2, **SMALLEST)
    spec, task = load_spec(name), next(iter(load_spec(name).tasks))
    agent = Agent(load_base("base"), spec, task=task, planner=PLANNER)
    robot, goals = SimRobot(spec, seed=0), TaskGoals(spec, spec.tasks[task], seed=0)
    agent.begin(robot.last_action)
    obs, surprises = robot.read().values, []
    for step in range(12):
        applied = robot.write(agent.act(obs, goals.compute_goal(step)))
        after = robot.read().values
        if step in LOST:
            after[list(spec.layout.optional)] = np.nan
        surprises.append(agent.observe(obs, applied, after).nll)
        obs = after
    assert np.isfinite(surprises).all()
    assert bool(spec.layout.optional) == (name != "arm_effort")
