"""A base holds plans of several tasks, of tasks of files too, and an agent gets that of its task."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.agent.exports import PLANNER
from wm_robot.agent.agent import Agent
from wm_robot.agent.builder import AgentConfig, complete_tasks, load_agent
from wm_robot.agent.onnx_files import add_exported_task, load_functions
from wm_robot.errors import SnapshotError, SpecError
from wm_robot.model.base import load_base
from wm_robot.spec import Task
from wm_robot.tasks import REWARDS
from wm_robot.training.export.base_graphs import check_graphs, export_graphs
from wm_robot.training.export.plan_iteration import PlanIterationExport
from wm_robot.training.export.update_step import UpdateStepExport

FILE = "go.py:progress"
GO = Task(reward=FILE, goal=1, source="ab")


def progress(obs, action, next_obs, goal):
    """A plain reward of all four arguments."""
    far, near = (obs[..., 0] - goal[..., 0]) ** 2, (next_obs[..., 0] - goal[..., 0]) ** 2
    return far - near - 0.1 * (action**2).sum(-1)


@pytest.fixture
def loaded_file(monkeypatch):
    """The process of a command that has loaded the file."""
    monkeypatch.setitem(REWARDS, FILE, progress)


@pytest.fixture(scope="module")
def two_plans(tmp_path_factory, spec, exported):
    """A base with the plans of two tasks, and the bytes of its graphs before the second."""
    folder = tmp_path_factory.mktemp("two") / "base"
    shutil.copytree(exported[0], folder)
    base = load_base(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("*.onnx")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REWARDS, FILE, progress)
        known = replace(spec, tasks={**spec.tasks, "go": GO})
        found = export_graphs(folder, base, known, task="go", planner=PLANNER, plan_only=True)
    assert found.keys() == {"plan"}
    return folder, base, before


def act(base, spec, task, functions, steps=10):
    agent = Agent(base, spec, task=task, planner=PLANNER, functions=functions)
    agent.begin(np.zeros(1, np.float32))
    rng, actions = np.random.default_rng(0), []
    obs = rng.normal(size=(steps + 1, 2)).astype(np.float32)
    goal = np.full(spec.find_task(task).goal, 0.5, np.float32)
    for step in range(steps):
        actions.append(agent.act(obs[step], goal))
        agent.observe(obs[step], actions[-1], obs[step + 1])
    return np.stack(actions), agent.torch_reason


def test_a_further_plan_has_its_own_file_and_leaves_the_others(two_plans):
    folder, _, before = two_plans
    after = {path.name: path.read_bytes() for path in folder.glob("*.onnx")}
    assert after.keys() - before.keys() == {"plan-go.onnx"}
    assert {name: after[name] for name in before} == before
    plans = json.loads((folder / "graphs.json").read_text())["plans"]
    assert [(name, plan["file"]) for name, plan in plans.items()] == [
        ("reach", "plan.onnx"),
        ("go", "plan-go.onnx"),
    ]


def test_an_agent_gets_the_plan_of_its_task(two_plans, spec, loaded_file):
    folder, base, _ = two_plans
    known = replace(spec, tasks={**spec.tasks, "go": GO})
    acted = {}
    for task in ("reach", "go"):
        acted[task], why = act(base, known, task, load_functions(folder, base, task))
        assert why == ""
        np.testing.assert_allclose(acted[task], act(base, known, task, None)[0], atol=1e-2)
    assert not np.allclose(acted["reach"], acted["go"], atol=1e-2)
    assert load_functions(folder, base).plan.is_valid_for(spec, task="reach", planner=PLANNER)


def test_a_robot_without_the_file_gets_the_task_from_the_base(two_plans, spec, caplog):
    folder, base, _ = two_plans
    known = add_exported_task(spec, folder, base, "go")
    assert known.tasks == {**spec.tasks, "go": GO}
    assert act(base, known, "go", load_functions(folder, base, "go"))[1] == ""
    config = AgentConfig(base=str(folder), task="go", num_samples=16, horizon=4)
    assert complete_tasks(spec, config).tasks == known.tasks
    assert complete_tasks(spec, replace(config, task="reach")) is spec
    # Its reward is in the plan alone, so received rewards cannot be compared with those of plans.
    with pytest.raises(SpecError, match="is of a file that is not loaded here"):
        load_agent(config, known)
    assert "plans of task 'go' are not monitored: its reward is of a file" in caplog.text


def test_the_plan_of_a_changed_file_is_not_used(two_plans, spec, loaded_file):
    folder, base, _ = two_plans
    changed = replace(spec, tasks={**spec.tasks, "go": replace(GO, source="cd")})
    why = act(base, changed, "go", load_functions(folder, base, "go"), steps=1)[1]
    assert "are for another task or planner config" in why and f"export {folder} --task go" in why


def test_a_task_without_a_plan_is_planned_in_torch_and_names_the_command(two_plans, spec):
    folder, base, _ = two_plans
    known = replace(spec, tasks={**spec.tasks, "hold": Task(reward="hold")})
    functions = load_functions(folder, base, "hold")
    assert functions.plan is None and functions.backend is not None
    why = act(base, known, "hold", functions, steps=1)[1]
    assert f"no plan for task 'hold'. Export it: wm-robot export {folder} --task hold" in why


def test_plans_of_all_tasks_are_compared_where_their_reward_is(two_plans, spec, monkeypatch):
    folder, base, _ = two_plans
    monkeypatch.setattr("wm_robot.training.export.base_graphs.has_reference", lambda: False)
    assert check_graphs(folder, base, spec, num_steps=5).keys() == {"plan", "update"}
    monkeypatch.setitem(REWARDS, FILE, progress)
    found = check_graphs(folder, base, spec, num_steps=5)
    assert found.keys() == {"plan", "update", "plan of go"} and max(found.values()) <= 1e-3
    monkeypatch.setitem(
        REWARDS, FILE, lambda obs, action, next_obs, goal: -progress(obs, action, next_obs, goal)
    )
    with pytest.raises(SnapshotError, match="the exported plan differs from torch"):
        check_graphs(folder, base, spec, num_steps=5)


def test_an_export_of_everything_keeps_the_plans_of_other_tasks(two_plans, spec, tmp_path, monkeypatch):
    folder, base, before = two_plans
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for part, name in (("export_predict", "predict.onnx"), ("export_update", "update.onnx")):
        content = before[name]
        monkeypatch.setattr(UpdateStepExport, part, lambda *_, content=content: content)
    monkeypatch.setattr(PlanIterationExport, "export_graph", lambda _: before["plan.onnx"])
    monkeypatch.setattr(UpdateStepExport, "compute_differences", lambda *_, **__: [0.0])
    export_graphs(tmp_path, base, spec, task="reach", planner=PLANNER)
    card = json.loads((tmp_path / "graphs.json").read_text())
    assert list(card["plans"]) == ["reach", "go"] and card["steps"] == 1000
    assert load_functions(tmp_path, base, "go").plan is not None


@pytest.mark.parametrize("file", ["../plan.onnx", "plan-../../x.onnx", "update.onnx", "weights.safetensors"])
def test_a_card_that_names_another_file_as_a_plan_is_refused(two_plans, tmp_path, file):
    folder, base, _ = two_plans
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    card = json.loads((tmp_path / "graphs.json").read_text())
    card["plans"]["go"]["file"] = file
    (tmp_path / "graphs.json").write_text(json.dumps(card))
    with pytest.raises(SnapshotError, match="cannot be read: .* is no file of a plan"):
        load_functions(tmp_path, base)


def test_a_missing_plan_file_is_damage(two_plans, tmp_path):
    folder, base, _ = two_plans
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "plan-go.onnx").unlink()
    with pytest.raises(SnapshotError, match="Export them again: wm-robot export"):
        load_functions(tmp_path, base)
