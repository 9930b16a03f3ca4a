"""A pretrained state is one that an agent can begin with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")

from wm_robot.agent.agent import Agent
from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot_cli.pretrain_state import run_curriculum

BASE = Path(__file__).parents[2] / "bases" / "arm-semiparametric"


@pytest.fixture(scope="module")
def setting():
    return load_base(BASE), load_spec("arm")


def test_a_curriculum_ends_in_a_state_to_begin_with(tmp_path, setting):
    base, spec = setting
    # With its graphs, which plan several times as fast as torch where shapes are checked.
    for path in (*BASE.glob("*.onnx"), BASE / "graphs.json", BASE / "initial_state.safetensors"):
        shutil.copy(path, tmp_path)
    rows = run_curriculum(tmp_path, base, spec, task="reach", worlds=1, min_competence=0.5, steps=(150, 200))
    assert [row["passed"] for row in rows] == [True] * 3
    assert rows[0]["deviation"] == rows[-1]["deviation"] == 0 < rows[1]["deviation"]
    lived = sum(row["steps"] for row in rows)
    card = json.loads((tmp_path / "pretrained" / "curriculum.json").read_text())
    assert card["stages"] == rows and card["base"] == base.digest
    agent = Agent(base, spec, task="reach")
    agent.begin(np.zeros(spec.action_dim, np.float32), tmp_path / "pretrained")
    assert agent.counters["num_steps"] == lived


def test_no_state_is_written_if_all_stages_fail(tmp_path, setting, capsys):
    base = setting[0]
    record = tmp_path / "pretrained" / "curriculum.json"
    record.parent.mkdir()
    record.write_text('{"base": "an earlier one"}')
    rows = run_curriculum(tmp_path, *setting, task="reach", worlds=0, min_competence=1.1, steps=(10, 20))
    assert [(row["passed"], row["steps"]) for row in rows] == [(False, 20)] * 2
    assert not record.parent.exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("no pretrained state: all 2 stages failed")
    assert json.loads((tmp_path / "curriculum-failed.json").read_text())["stages"] == rows
    record.parent.mkdir()
    record.write_text(json.dumps({"base": base.digest}))
    run_curriculum(tmp_path, *setting, task="reach", worlds=0, min_competence=1.1, steps=(1, 2))
    assert record.exists()
    assert f"the earlier one in {tmp_path / 'pretrained'} stays" in capsys.readouterr().out


def test_the_pretrained_state_that_ships_passed_and_belongs_to_its_base(setting):
    base, spec = setting
    card = json.loads((BASE / "pretrained" / "curriculum.json").read_text())
    assert card["base"] == base.digest and all(row["passed"] for row in card["stages"])
    agent = Agent(base, spec, task="reach")
    agent.begin(np.zeros(spec.action_dim, np.float32), BASE / "pretrained")
    assert agent.counters["num_steps"] == sum(row["steps"] for row in card["stages"])
