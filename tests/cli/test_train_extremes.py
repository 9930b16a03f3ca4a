"""Robots of 1 and 30 joints at 20 and 500 Hz, with readings from 1e-6 to 1e6, are trained, plan and learn."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.learn, pytest.mark.sim, pytest.mark.soak, pytest.mark.timeout(1800)]
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import load_functions
from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot_cli.train import train_base
from wm_robot_sim.robot import SimRobot

TINY = {
    "updates": 40,
    "batch_size": 4,
    "random_trajectories": 64,
    "planned_trajectories": 4,
    "calibration_trajectories": 4,
    "trajectory_steps": 64,
    "steps": 24,
    "pretrain_state": False,
    "curriculum": False,
}


MANY = {"updates": 8, "batch_size": 2, "steps": 12}
"""For thirty joints, whose 214 physical parameters an `ekf` estimates at every step of a segment."""


def make_robot(folder: Path, joints: int, rate: float, size: float) -> Path:
    """A hanging chain of slides whose positions are of a size, in m: a servo for each, as wide as it is."""
    names = [f"j{number}" for number in range(joints)]
    bodies = "".join(
        f'<body><joint name="{name}" type="slide" axis="1 0 0" range="{-size} {size}" damping="2"/>'
        '<geom size="0.02" mass="0.1" contype="0" conaffinity="0"/></body>'
        for name in names
    )
    servos = "".join(
        f'<position name="{name}" joint="{name}" kp="40" ctrlrange="{-size} {size}"/>' for name in names
    )
    step = 1 / rate / max(1, round(0.002**-1 / rate))
    (folder / "many.xml").write_text(
        f'<mujoco><option timestep="{step}" integrator="implicitfast"/><worldbody>{bodies}</worldbody>'
        f"<actuator>{servos}</actuator></mujoco>"
    )
    spec = RobotSpec.from_dict(
        {
            "name": "many",
            "rate": rate,
            "model": "many.xml",
            "joints": [
                {"name": n, "kind": "slide", "position": [-size, size], "velocity": 20 * size, "effort": 50.0 * size}
                for n in names
            ],
            "actuators": [
                {"name": n, "joint": n, "kind": "position", "range": [-size, size], "rate": 10 * size} for n in names
            ],
            "tasks": {"stay": {"reward": "hold"}},
            "world": {"gain": [0.7, 1.4], "mass": [0.7, 1.4]},
        }
    )  # fmt: skip
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict(), default=dict))))
    return path


@pytest.mark.parametrize(
    ("joints", "rate", "size"),
    [(1, 20.0, 1.0), (1, 500.0, 1.0), (30, 20.0, 1.0), (30, 500.0, 1.0), (3, 50.0, 1e-6), (3, 50.0, 1e6)],
)
@pytest.mark.parametrize("memory", ["ekf", "gru"])
def test_a_robot_at_the_edge_is_trained_plans_and_learns(tmp_path, monkeypatch, joints, rate, size, memory):
    monkeypatch.chdir(tmp_path)
    path = make_robot(tmp_path, joints, rate, size)
    size_of_training = {**TINY, **(MANY if joints == 30 else {})}
    train_base(str(path), **size_of_training, memory=memory, out=tmp_path / "base")
    spec, base = load_spec(path), load_base(tmp_path / "base")
    losses = [point["surprise"] for point in base.manifest["card"]["curve"]]
    assert np.isfinite(losses).all()
    agent = Agent(base, spec, task="stay", functions=load_functions(tmp_path / "base", base), seed=0)
    robot = SimRobot(spec, seed=0)
    agent.begin(robot.last_action)
    errors = []
    for _ in range(40):
        obs = robot.read().values
        applied = robot.write(agent.act(obs, np.zeros(spec.find_task("stay").goal, np.float32)))
        found = agent.observe(obs, applied, robot.read().values)
        errors.append(found.error)
    assert np.isfinite(errors).all()
    # In predicted deviations: the same for readings of a micrometre and of a thousand kilometres.
    assert np.sqrt(np.mean(np.square(errors))) < 30
