"""The demo of other robots than the arm: error, words and figures follow from the task, the change from the spec."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.sim, pytest.mark.learn]
pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "wm_robot[report]"')
pytest.importorskip("mujoco")
pytest.importorskip("torch")

from tests.demo.test_single_process import Page, end_of, watched
from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.model.base import save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks import TaskError, compute_gripper_position
from wm_robot_cli.main import main
from wm_robot_demo import DemoOptions
from wm_robot_demo.demo_run import find_demo_bases, run_demo
from wm_robot_demo.scenario import DemoChange
from wm_robot_demo.session import DemoSession, RobotSettings
from wm_robot_demo.single_process import SimulatedRobotRun
from wm_robot_sim.world_parameter import parse_world
from wm_robot_sim.worlds import DomainRandomization

GANTRY = """
<mujoco><option timestep="0.004" integrator="implicitfast"/><worldbody><geom type="plane" size="1 1 0.1"/>
<body name="x" pos="0 0 0.5"><joint name="x" type="slide" axis="1 0 0" range="-0.5 0.5" damping="5"/>
<geom type="box" size="0.1 0.05 0.05" mass="1"/><body name="y" pos="0 0 0.1">
<joint name="y" type="slide" axis="0 1 0" range="-0.3 0.3" damping="5"/>
<geom type="box" size="0.05 0.1 0.03" mass="0.5"/></body></body></worldbody>
<actuator><position name="x" joint="x" kp="200" kv="10"/><position name="y" joint="y" kp="200" kv="10"/></actuator>
</mujoco>
"""


def make_base(folder: Path, spec: RobotSpec, memory: str = "ridge") -> Path:
    """An untrained base: that everything runs and is said, not that it is solved."""
    truth = len(DomainRandomization(spec).parameter_names)
    config = ModelConfig.from_spec(spec, truth=truth, memory=memory, width=16, context=8)
    save_base(folder, WorldModel(config), spec, card={})
    return folder


@pytest.fixture
def gantry(tmp_path, monkeypatch) -> Path:
    """A robot of two slides, as `wm-robot new` writes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gantry.xml").write_text(GANTRY)
    main(["new", "gantry", "--mjcf", "gantry.xml"])
    return tmp_path / "gantry.yaml"


def show(out: Path, robot: str, *arguments: str) -> tuple[dict, Page]:
    spec = load_spec(robot)
    base = make_base(out / "bases" / f"{spec.name}-ridge", spec)
    facts = watched(out, "--short", "--robot", robot, "--base", str(base), *arguments)
    assert facts["code"] == 0
    return facts, Page(out / "report.html")


def check_that_it_is_of_a_robot(facts: dict, page: Page) -> None:
    assert all(line in page.words for line in end_of(facts["said"], page))
    # What the user's robot is called, and no figure of another one.
    assert not re.search(r"\barms?\b|arm-semiparametric", page.words)
    assert all(len(errors) == 2 and np.isfinite(errors).all() for _, _, errors in facts["scenes"])
    assert any("frozen robot has the base of the other one" in line for line in facts["said"])


@pytest.mark.parametrize(("robot", "task"), [("cartpole", "balance"), ("so101", "track_joints")])
def test_each_step_of_a_robot_has_an_error(tmp_path, robot, task):
    spec = load_spec(robot)
    change = DemoChange.draw(0, spec, task)
    settings = RobotSettings(
        name="adaptive",
        base=make_base(tmp_path / "base", spec),
        learning=True,
        change_time=0.02,
        change_world=change.world_text,
    )
    session = DemoSession(
        title="one", robot=robot, task=task, period=spec.dt, seed=0, duration=1.0, robots=(settings,)
    )
    run = SimulatedRobotRun(settings, session, spec)
    for _ in range(3):
        run.step()
    run.update_view()
    track = run.to_recording()
    assert len(track.error) == 4 and (track.error >= 0).all() and np.isfinite(track.error).all()
    assert run.view.recent_error is not None and track.change_time == pytest.approx(spec.dt)
    assert track.target.shape == (4, spec.find_task(task).goal)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_pole_is_shown_by_its_tilt(tmp_path):
    facts, page = show(tmp_path, "cartpole", "--task", "balance")
    check_that_it_is_of_a_robot(facts, page)
    assert "How far each robot was from upright, its target" in page.words
    assert not re.search(r"\d mm\b", page.words) and re.search(r"\d rad\b", page.words)
    assert re.search(r"slide at \d+ % strength\.", page.words) and "reward" not in page.words


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_two_slides_are_shown_by_their_distance(tmp_path, gantry):
    facts, page = show(tmp_path, str(gantry))
    check_that_it_is_of_a_robot(facts, page)
    assert "How far each gripper was from its target" in page.words
    assert re.search(r"0\.\d+ kg at y, [xy] at \d+ % strength", page.words)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("robot", "task"), [("so101", "track_joints"), ("reacher", "reach")])
def test_joints_are_shown_in_rad_and_a_gripper_in_mm(tmp_path, robot, task):
    facts, page = show(tmp_path, robot, "--task", task)
    assert all(line in page.words for line in end_of(facts["said"], page))
    in_rad = task == "track_joints"
    assert ("How far each robot's joints were from their target" in page.words) == in_rad
    assert bool(re.search(r"\d rad\b", page.words)) == in_rad


def test_the_error_of_each_task_is_its_own(gantry):
    rng = np.random.default_rng(0)
    spec = load_spec("so101")
    obs, action = rng.uniform(-1, 1, (5, spec.obs_dim)), np.zeros((5, spec.action_dim))
    reach = TaskError(spec, spec.find_task("reach"))
    point, gripper = rng.uniform(-1, 1, (5, 3)), rng.uniform(-1, 1, (5, 3))
    found = reach.measure(obs, action, obs, point, gripper)
    assert reach.scale.unit == "mm" and found == pytest.approx(np.linalg.norm(point - gripper, axis=-1))
    tracked = TaskError(spec, spec.find_task("track_joints"))
    goal = rng.uniform(-1, 1, (5, 6))
    expected = np.sqrt(((obs[:, :6] - goal) ** 2).mean(-1))
    assert tracked.scale.unit == "rad" and tracked.measure(obs, action, obs, goal) == pytest.approx(expected)
    # Without the true position of the gripper it is where the joints say.
    place = reach.measure(obs, action, obs, compute_gripper_position(spec, obs))
    assert place == pytest.approx(0, abs=1e-9) and reach.tolerance == 0.015
    held = TaskError(spec, spec.find_task("hold")).measure(obs, action, obs, np.zeros((5, 0)))
    assert held == pytest.approx(np.sqrt((obs[:, :6] ** 2).mean(-1)))
    slides = load_spec(gantry)
    assert TaskError(slides, Task(reward="hold")).scale.unit == "m"
    assert TaskError(slides, slides.find_task("reach")).scale.robot_noun == "robot"
    pole = load_spec("cartpole")
    upright, fallen = np.zeros((2, pole.obs_dim))
    fallen[1] = 0.3
    balanced = TaskError(pole, pole.find_task("balance"))
    still, off = (balanced.measure(x, np.zeros(1), x, np.zeros(0)) for x in (upright, fallen))
    assert still == 0 and off == pytest.approx(0.3) and balanced.tolerance == pytest.approx(np.radians(12))


def test_the_change_is_one_that_the_spec_declares(gantry):
    spec = load_spec("cartpole")
    change = DemoChange.draw(0, spec, "balance")
    world = parse_world(change.world_text, spec, seed=0)
    assert change.joints == ("slider",) and 0.3 <= world.gain[0] <= 0.5 and world.fault == ("weak",)
    # Without a fault or a load, the widest range.
    wide = replace(spec, world={"mass": [0.9, 1.1], "damping": [0.5, 2.0]})
    change = DemoChange.draw(0, wide, "balance")
    world = parse_world(change.world_text, wide, seed=0)
    assert set(world.damping) in ({0.5}, {2.0}) and set(world.mass) == {1.0}
    assert re.fullmatch(r"damping (0\.5|2) times as large", change.description)
    declared = replace(spec, world={}, randomize={"joint/hinge_1/damping": {"factor": [1.0, 4.0]}})
    change = DemoChange.draw(0, declared, "balance")
    assert change.description == "damping of joint hinge_1: 4 times"
    assert parse_world(change.world_text, declared, seed=0).parameters == {"joint/hinge_1/damping": 4.0}
    # For a gripper, a motor on the way to it.
    chain = {link.joint for link in load_spec("so101").chain}
    assert {DemoChange.draw(s, load_spec("so101"), "reach").joints[0] for s in range(20)} <= chain


def test_a_robot_that_declares_nothing_is_refused_in_one_sentence(tmp_path):
    spec = replace(load_spec("cartpole"), world={})
    with pytest.raises(ConfigError, match="declares no change: .* Declare one, such as world: "):
        DemoChange.draw(0, spec, "balance")


def test_a_robot_without_a_base_is_told_how_to_train_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = DemoOptions(
        output_folder=tmp_path, robot="cartpole", ros=False, describe_training_time=lambda: "about 90 min"
    )
    words = (
        r"no base in bases/cartpole-semiparametric. "
        r"Train it first: wm-robot train cartpole --all \(about 90 min\)"
    )
    with pytest.raises(SnapshotError, match=f"robot 'cartpole' has {words}"):
        run_demo(options, None)


def test_a_base_beside_the_other_is_the_frozen_one_if_it_is_of_this_robot(tmp_path):
    spec = load_spec("cartpole")
    base = make_base(tmp_path / "cartpole-ridge", spec)
    options = DemoOptions(output_folder=tmp_path, robot="cartpole", base=base)
    assert find_demo_bases(options, spec).frozen == base
    robust = make_base(tmp_path / "cartpole-robust", spec, "null")
    assert find_demo_bases(options, spec).frozen == robust
    card = json.loads((robust / "base.json").read_text())
    (robust / "base.json").write_text(json.dumps(card | {"spec_digest": "0" * 64}))
    assert find_demo_bases(options, spec).frozen == base
