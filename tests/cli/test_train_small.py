"""The smallest robot there is, trained with sizes of one, makes a base that plans, updates and continues."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")

from tests.sim.small_robots import make_hinge, make_leg
from wm_robot import tasks
from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import load_functions
from wm_robot.agent.plan_monitor import PlanMonitor
from wm_robot.errors import ConfigError, SnapshotError, SpecError
from wm_robot.math.kinematics import Array
from wm_robot.model.base import load_base
from wm_robot.model.calibration import load_calibration
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.tasks import Reward
from wm_robot.training.export import base_graphs
from wm_robot_cli.check import check_robot
from wm_robot_cli.train import train_base
from wm_robot_sim.robot import SimRobot

JOINT = (
    '<joint name="swing" axis="0 1 0" range="-2 2" damping="0.3"/>'
    '<geom type="capsule" size="0.02" fromto="0 0 0 0.2 0 0" mass="0.3"/>'
)
SERVO = '<position name="swing" joint="swing" kp="20" kv="1" ctrlrange="-2 2"/>'
MOTOR = '<motor name="swing" joint="swing" ctrlrange="-1 1"/>'
MOTOR_SPEC = [{"name": "swing", "joint": "swing", "kind": "effort", "range": [-1.0, 1.0], "rate": 6.0}]
ONES = {
    **{"batch_size": 1, "random_trajectories": 1, "planned_trajectories": 1, "calibration_trajectories": 1},
    **{"effect_trajectories": 1, "correction_updates": 1},
}
TINY = {**ONES, "updates": 2, "steps": 10, "trajectory_steps": 16, "pretrain_state": False}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, short_estimate) -> Path:
    """Where trainings write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def task_of_one_number(monkeypatch) -> None:
    """A task whose goal is one number, for one channel of the observation."""

    def make_reward(spec: RobotSpec) -> Reward:
        def compute_reward(before: Array, action: Array, seen: Array, goal: Array) -> Array:
            return -((seen - goal) ** 2).sum(-1)

        return Reward(compute_reward, lambda obs: obs[..., :1])

    monkeypatch.setitem(tasks.REWARDS, "one_number", make_reward)


TASKS = {"track": {"reward": "one_number", "goal": 1}}


def train(spec: RobotSpec, folder: Path, **options: object) -> RobotSpec:
    """Train a tiny base; return the spec as it is loaded from now on, with what is stored of its model."""
    path = folder / f"{spec.name}.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict(), default=dict))))
    train_base(str(path), **{**TINY, "out": folder / "base", **options})
    return load_spec(path)


def live(agent: Agent, robot: SimRobot, steps: int) -> np.ndarray:
    goal, obs = np.full(1, 0.5, np.float32), robot.read().values
    for _ in range(steps):
        applied = robot.write(agent.act(obs, goal))
        following = robot.read().values
        agent.observe(obs, applied, following)
        obs = following
    return agent.act(obs, goal)


@pytest.mark.soak
def test_one_joint_with_one_servo_and_one_channel_is_trained_plans_updates_and_resumes(folder):
    spec = make_hinge(
        folder,
        JOINT,
        SERVO,
        interfaces=["position"],
        tasks=TASKS,
        world={"gain": [0.7, 1.4], "delay": [0, 2]},
    )
    spec = train(spec, folder)
    base = load_base(folder / "base")
    assert load_calibration(folder / "base", base).horizons
    graphs = load_functions(folder / "base", base)
    assert graphs
    for name, functions in (("onnx", graphs), ("torch", None)):

        def make_agent(functions=functions) -> Agent:
            monitor = PlanMonitor(spec, task="track")
            return Agent(base, spec, task="track", functions=functions, plan_monitor=monitor, seed=0)

        agent, robot = make_agent(), SimRobot(spec, seed=0)
        agent.begin(robot.last_action)
        action = live(agent, robot, 12)
        assert action.shape == (1,) and spec.action_low <= action <= spec.action_high
        agent.save(f"{folder / 'store'}/{name}")
        resumed = make_agent()
        resumed.begin(robot.last_action, restore=f"{folder / 'store'}/{name}")
        assert resumed.counters["num_steps"] == 12
        assert np.isfinite(live(resumed, robot, 4)).all()


@pytest.mark.parametrize("memory", ["hope", "kv", "ridge"])
def test_one_joint_with_one_motor_is_trained_with_other_memories(folder, monkeypatch, memory):
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    spec = make_hinge(
        folder,
        JOINT,
        MOTOR,
        actuators=MOTOR_SPEC,
        interfaces=["velocity"],
        tasks=TASKS,
        world={"gain": [0.7, 1.4]},
    )
    spec = train(spec, folder, memory=memory)
    agent, robot = Agent(load_base(folder / "base"), spec, task="track", seed=0), SimRobot(spec, seed=0)
    agent.begin(robot.last_action)
    assert np.isfinite(live(agent, robot, 6)).all()


def test_a_joint_with_efforts_and_an_imu_is_trained_and_plans(folder, monkeypatch):
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    spec = make_hinge(
        folder,
        f'{JOINT}<site name="end" pos="0.2 0 0"/>',
        SERVO,
        interfaces=["position", "velocity", "effort"],
        sensors=[
            {"name": "imu", "kind": "imu", "frame": "end", "noise": 0.01},
            {"name": "slow", "kind": "wrench", "frame": "link", "limits": 10, "noise": 0.1, "rate": 10},
            {"name": "battery", "kind": "battery", "nominal": 12, "noise": 0.1},
        ],
        tasks=TASKS,
        world={"gain": [0.7, 1.4], "effort_noise": 0.01},
    )
    spec = train(spec, folder)
    base = load_base(folder / "base")
    assert base.config["obs"] == spec.obs_dim == 3 + 12 + 6 + 1 and base.config["rotations"] == [3]
    agent, robot = Agent(base, spec, task="track", seed=0), SimRobot(spec, seed=0)
    agent.begin(robot.last_action)
    assert np.isfinite(live(agent, robot, 12)).all()


def test_a_sensor_that_never_changes_is_refused_with_what_to_do(folder, capsys):
    mood = {"name": "mood", "kind": "scalar", "limits": 1}
    with pytest.raises(
        SpecError, match="'mood/value'. of robot 'hinge' never change .* give it noise or a source"
    ):
        train(make_hinge(folder, JOINT, SERVO, sensors=[mood], tasks=TASKS), folder)


def test_a_corrected_model_is_never_trained_on_what_was_simulated_before(folder, monkeypatch):
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    spec = make_hinge(folder, JOINT, SERVO, interfaces=["position"], tasks=TASKS)
    path, model = folder / f"{spec.name}.yaml", folder / spec.model
    before = train(spec, folder, out=folder / "first")
    model.write_text(model.read_text().replace('mass="0.3"', 'mass="0.6"'))
    with pytest.raises(SpecError, match="changed since .* it behaves otherwise. Run .*: wm-robot check"):
        train_base(str(path), **{**TINY, "out": folder / "second"})
    check_robot(str(path))
    with pytest.raises(
        SnapshotError, match="trajectories-0.safetensors was collected with robot .* instead of"
    ):
        train_base(str(path), **{**TINY, "out": folder / "second"})
    after = train(spec, folder, out=folder / "second", data=folder / "data", work=folder / "work")
    first, second = (load_base(folder / name).manifest for name in ("first", "second"))
    assert first["weights_sha256"] != second["weights_sha256"]
    assert (first["spec_digest"], second["spec_digest"]) == (before.compute_digest(), after.compute_digest())
    with pytest.raises(SnapshotError, match="was trained for robot"):
        load_base(folder / "first").check_spec(after)


def test_a_long_delay_is_covered_by_the_actions_that_the_model_receives(folder, monkeypatch):
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    spec = make_leg(folder, tasks=TASKS, world={"delay": [0, 20]})
    train(spec, folder, variant="robust")
    assert load_base(folder / "base").config["recent"] == 5


def test_a_delay_as_long_as_a_plan_is_refused_before_anything_is_simulated(folder):
    spec = make_leg(folder, tasks=TASKS, world={"delay": [0, 50]})
    words = "world.delay up to 50 physics steps, 10 control periods of 5; a plan has 10 steps. .* at most 45"
    with pytest.raises(SpecError, match=words):
        train(spec, folder)
    assert not list(folder.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": {}}, "robot 'leg' has no task. Add one to its spec, or use --reward"),
        ({"tasks": {"reach": {"reward": "reach", "goal": 3}}}, "robot 'leg' has no chain"),
        ({"world": {"payload": [0.1, 0.5]}}, "world.payload is .*, and no body carries it"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_simulated(folder, capsys, changes, words):
    with pytest.raises((ConfigError, SpecError), match=words):
        train(make_leg(folder, **{"tasks": TASKS, **changes}), folder)
    assert "collecting" not in capsys.readouterr().out


def test_a_base_and_its_checkpoints_need_two_folders(folder):
    words = "would both write .*leg-semiparametric; .* Set --work .*/work"
    with pytest.raises(ConfigError, match=words):
        train(make_leg(folder, tasks=TASKS), folder, out=folder / "leg-semiparametric", work=folder)
