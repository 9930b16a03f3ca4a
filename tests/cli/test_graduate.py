"""A life that has been through school is one that an agent can begin with."""

import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")

from wm_robot.agent.agent import Agent
from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot_cli.graduate import run_curriculum

BASE = Path(__file__).parents[2] / "bases" / "arm-ekf"


@pytest.fixture(scope="module")
def setting():
    return load_base(BASE), load_spec("arm")


def test_school_ends_in_a_life_to_begin_with(tmp_path, setting):
    base, spec = setting
    rows = run_curriculum(tmp_path, base, spec, task="reach", worlds=1, min_competence=0.5, steps=(150, 200))
    assert [row["passed"] for row in rows] == [True] * 3
    assert rows[0]["deviation"] == rows[-1]["deviation"] == 0 < rows[1]["deviation"]
    lived = sum(row["steps"] for row in rows)
    card = json.loads((tmp_path / "graduate" / "transcript.json").read_text())
    assert card["stages"] == rows and card["base"] == base.digest
    agent = Agent(base, spec, task="reach")
    agent.begin(np.zeros(spec.action_dim, np.float32), tmp_path / "graduate")
    assert agent.counters["num_steps"] == lived


def test_a_life_that_is_given_up_in_all_stages_is_no_graduate(tmp_path, setting, capsys):
    base = setting[0]
    transcript = tmp_path / "graduate" / "transcript.json"
    transcript.parent.mkdir()
    transcript.write_text('{"base": "an earlier one"}')
    rows = run_curriculum(tmp_path, *setting, task="reach", worlds=0, min_competence=1.1, steps=(10, 20))
    assert [(row["passed"], row["steps"]) for row in rows] == [(False, 20)] * 2
    assert not transcript.parent.exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("no graduate: all 2 stages were given up")
    assert json.loads((tmp_path / "graduate-given-up.json").read_text())["stages"] == rows
    transcript.parent.mkdir()
    transcript.write_text(json.dumps({"base": base.digest}))
    run_curriculum(tmp_path, *setting, task="reach", worlds=0, min_competence=1.1, steps=(1, 2))
    assert transcript.exists()
    assert f"the earlier one in {tmp_path / 'graduate'} stays" in capsys.readouterr().out


def test_the_graduate_that_ships_passed_and_belongs_to_its_base(setting):
    base, spec = setting
    card = json.loads((BASE / "graduate" / "transcript.json").read_text())
    assert card["base"] == base.digest and all(row["passed"] for row in card["stages"])
    agent = Agent(base, spec, task="reach")
    agent.begin(np.zeros(spec.action_dim, np.float32), BASE / "graduate")
    assert agent.counters["num_steps"] == sum(row["steps"] for row in card["stages"])
