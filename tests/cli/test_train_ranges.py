"""Named ranges of a spec reach the model, the trajectories and the card of a training."""

import json
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")

from tests.sim.small_robots import make_leg
from wm_robot.errors import SpecError
from wm_robot.model.base import load_base
from wm_robot.spec import RobotSpec
from wm_robot.training.export import base_graphs
from wm_robot_cli.train import train_base
from wm_robot_cli.trajectory_collector import TrajectoryCollector
from wm_robot_sim.worlds import DomainRandomization

TINY = {
    "batch_size": 1,
    "random_trajectories": 1,
    "planned_trajectories": 1,
    "calibration_trajectories": 1,
    "updates": 2,
    "steps": 10,
    "trajectory_steps": 16,
    "pretrain_state": False,
}
TASKS = {"stay": {"reward": "hold"}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, short_estimate) -> Path:
    """Where trainings write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    return tmp_path


def train(spec: RobotSpec, folder: Path, **options: object) -> None:
    path = folder / f"{spec.name}.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict(), default=dict))))
    train_base(str(path), **{**TINY, "out": folder / "base", **options})


RANDOMIZE = {
    "body/shin/mass": {"factor": [0.8, 1.2]},
    "actuator/knee/delay": {"seconds": [0.0, 0.08]},
    "fault/*/dead": {"chance": 0.1},
}


def test_named_ranges_are_trained_on_and_described_in_the_card(folder):
    spec = make_leg(folder, tasks=TASKS, randomize=RANDOMIZE)
    train(spec, folder, memory="ekf")
    base = load_base(folder / "base")
    assert base.manifest["card"]["trained_on"] == [
        "delay of actuator knee: 0 to 0.08 s",
        "mass of shin: 0.8 to 1.2 times",
        "fault dead of actuators hip, knee and toe: each in 10 % of the worlds",
    ]
    assert base.config["truth"] == len(DomainRandomization(spec).parameter_names)
    assert base.config["recent"] == 5, "the actions cover a delay of four control periods, and a late reading"


def test_the_nominal_variant_has_no_ranges_in_its_card(folder):
    train(make_leg(folder, tasks=TASKS, randomize=RANDOMIZE), folder, variant="nominal")
    card = load_base(folder / "base").manifest["card"]
    assert card["trained_on"] == ["the nominal robot, without variation"]


def test_trajectories_of_other_ranges_are_others(folder):
    def describe(**changes: object) -> dict[str, object]:
        spec = make_leg(folder, tasks=TASKS, **changes)
        collector = TrajectoryCollector(
            spec=spec, task="stay", num_trajectories=(1, 1), steps=8, static_share=0.0, seed=0, threads=1,
            nominal_only=False,
        )  # fmt: skip
        return collector.describe_round(0)

    wider = {**RANDOMIZE, "body/shin/mass": {"factor": [0.5, 2.0]}}
    found = [describe(), describe(randomize=RANDOMIZE), describe(randomize=wider)]
    assert len({json.dumps(each, sort_keys=True) for each in found}) == 3
    assert "randomize" not in found[0], "trajectories without it stay valid"
    assert len({each["robot"] for each in found}) == 1
    assert describe(randomize=dict(reversed(RANDOMIZE.items()))) == found[1]


def test_a_named_delay_as_long_as_a_plan_is_refused(folder):
    spec = make_leg(folder, tasks=TASKS, randomize={"actuator/*/delay": {"seconds": [0.0, 0.2]}})
    with pytest.raises(SpecError, match=r"randomize 'actuator/\*/delay' up to 50 physics steps, 10 control"):
        train(spec, folder)
