"""The exported plan is torch's plan, from any life; a file that is not the base's is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.models.base import load_base, save_base
from wm_robot.models.world_model import ModelConfig, WorldModel
from wm_robot.onboard import plan_graph
from wm_robot.onboard.agent import Agent
from wm_robot.onboard.plan_graph import export_plan, load_plan, scoring
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks import reward_of

PLANNER = MppiConfig(samples=16, horizon=4, iterations=2, elites=4)


@pytest.fixture(scope="module")
def spec() -> RobotSpec:
    joint = {"position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}
    return RobotSpec.from_dict(
        {
            "name": "point",
            "rate": 50,
            "mjcf": "point.xml",
            "joints": [{"name": "x", **joint}],
            "actuators": [{"name": "x", "joint": "x", "unit": "rad", "range": [-1.0, 1.0], "rate": 5.0}],
            "chain": [{"joint": "x", "origin": [0, 0, 0], "axis": [0, 0, 1.0]}],
            "tip": [1.0, 0.0, 0.0],
            "tasks": {"reach": {"reward": "reach", "goal": 3}},
        }
    )


def make_base(folder, spec, memory, seed=0):
    torch.manual_seed(seed)
    shape = ModelConfig.of(spec, goal=3, truth=1, memory=memory, width=16, context=4, outcome=8)
    save_base(folder, WorldModel(shape), spec, {})
    return load_base(folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, spec):
    folder = tmp_path_factory.mktemp("base")
    base = make_base(folder, spec, "gru")
    export_plan(folder, base, spec, task="reach", planner=PLANNER)
    return folder, base


def acted(base, spec, graph, planner=PLANNER, steps=30):
    agent = Agent(base, spec, task="reach", planner=planner, graph=graph)
    agent.begin(np.zeros(1, np.float32))
    rng, actions = np.random.default_rng(0), []
    obs = rng.normal(size=(steps + 1, 2)).astype(np.float32)
    for t in range(steps):
        actions.append(agent.act(obs[t], np.array([0.5, 0.5, 0.0], np.float32)))
        agent.live(obs[t], actions[-1], obs[t + 1])
    return np.stack(actions)


def test_a_life_driven_by_the_graph_is_the_one_driven_by_torch(exported, spec):
    folder, base = exported
    graph = load_plan(folder, base)
    np.testing.assert_allclose(acted(base, spec, graph), acted(base, spec, None), atol=1e-3)


def test_the_graph_is_what_plans(exported, spec, monkeypatch):
    folder, base = exported
    graph = load_plan(folder, base)
    monkeypatch.setattr("wm_robot.onboard.agent.scoring", None)
    acted(base, spec, graph, steps=2)


def test_another_search_than_the_exported_one_is_planned_in_torch(exported, spec):
    folder, base = exported
    graph, other = load_plan(folder, base), MppiConfig(samples=8, horizon=4, iterations=1, elites=4)
    assert not graph.fits(spec, task="reach", planner=other)
    np.testing.assert_array_equal(acted(base, spec, graph, other, 3), acted(base, spec, None, other, 3))


def test_who_shuns_risk_plans_in_torch(exported, spec):
    folder, base = exported
    cautious = replace(PLANNER, risk=1.0)
    assert not load_plan(folder, base).fits(spec, task="reach", planner=cautious)
    with pytest.raises(ConfigError, match="planner.risk is 1.0"):
        export_plan(folder, base, spec, task="reach", planner=cautious)


def test_a_plan_of_which_the_life_doubts_the_end_counts_less(tmp_path, spec):
    base = make_base(tmp_path, spec, "ridge")
    model, reward = base.model, reward_of(spec, spec.task("reach"))
    state = model.birth(1, hold=torch.zeros(1, 1))
    obs, goals, plans = torch.zeros(1, 2), torch.full((1, 4, 3), 0.5), torch.randn(1, 6, 4, 1)
    bold, cautious = (scoring(model, reward, state, obs, goals, risk=risk)(plans) for risk in (0.0, 2.0))
    each = []
    others = model.sampled(state, 4)
    for i in range(4):
        one = {name: value[i : i + 1] for name, value in others.items()}
        each.append(scoring(model, reward, one, obs, goals)(plans))
    torch.testing.assert_close(cautious, bold - 2 * torch.stack(each).std(0))
    assert (cautious < bold).all()


@pytest.mark.parametrize(
    "change",
    [
        {"tip": (2.0, 0.0, 0.0)},
        {"chain": ()},
        {"tasks": {"reach": Task(reward="reach", goal=3, parameters={"speed_cost": 0.1})}},
    ],
)
def test_a_graph_for_another_objective_does_not_fit(exported, spec, change):
    folder, base = exported
    graph = load_plan(folder, base)
    assert graph.fits(spec, task="reach", planner=PLANNER)
    assert graph.fits(spec, task="reach", planner=replace(PLANNER, iterations=7))
    assert not graph.fits(replace(spec, **change), task="reach", planner=PLANNER)


def test_plans_that_tie_are_no_reason_for_nan(exported, spec):
    folder, base = exported
    state = base.model.birth(1, hold=torch.zeros(1, 1))
    improve = load_plan(folder, base).improving(state, torch.zeros(1, 2), torch.full((1, 4, 3), 0.5))
    mean = torch.full((1, 4, 1), 0.05)
    better = improve(mean, torch.zeros(1, PLANNER.samples, 4, 1), torch.zeros(1, 1))
    torch.testing.assert_close(better, mean)


@pytest.mark.parametrize("memory", ["delta", "hope", "kv", "ridge", "ekf"])
def test_every_kind_of_state_is_an_input(tmp_path, spec, memory):
    base = make_base(tmp_path, spec, memory)
    export_plan(tmp_path, base, spec, task="reach", planner=PLANNER)
    graph = load_plan(tmp_path, base)
    np.testing.assert_allclose(acted(base, spec, graph), acted(base, spec, None), atol=1e-3)


def test_a_robot_without_goals_and_servos_has_a_graph_too(tmp_path):
    joint = {"position": [-9.0, 9.0], "velocity": 9.0, "effort": 1.0}
    pole = RobotSpec.from_dict(
        {
            "name": "pole",
            "rate": 50,
            "mjcf": "pole.xml",
            "joints": [{"name": "cart", **joint}, {"name": "pole", **joint}],
            "actuators": [{"name": "cart", "joint": "cart", "unit": "1", "range": [-1.0, 1.0], "rate": 50.0}],
            "tasks": {"swingup": {"reward": "swingup", "goal": 0}},
        }
    )
    torch.manual_seed(0)
    shape = ModelConfig.of(pole, goal=0, truth=1, memory="kalman", width=16, context=4, outcome=8)
    save_base(tmp_path, WorldModel(shape), pole, {})
    base = load_base(tmp_path)
    export_plan(tmp_path, base, pole, task="swingup", planner=PLANNER)
    found = []
    for graph in (load_plan(tmp_path, base), None):
        agent = Agent(base, pole, task="swingup", planner=PLANNER, graph=graph)
        agent.begin(np.zeros(1, np.float32))
        found.append(agent.act(np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.zeros(0, np.float32)))
    np.testing.assert_allclose(*found, atol=1e-3)


@pytest.mark.parametrize("error", [0.01, float("nan")])
def test_an_export_that_computes_something_else_is_refused(tmp_path, spec, monkeypatch, error):
    monkeypatch.setattr(plan_graph.PlanGraph, "improving", lambda *_: lambda mean, noise, hold: mean + error)
    with pytest.raises(SnapshotError, match="differs from torch by"):
        export_plan(tmp_path, make_base(tmp_path, spec, "none"), spec, task="reach", planner=PLANNER)
    assert not (tmp_path / "plan.onnx").exists()


def test_no_graph_is_no_error(tmp_path, spec):
    assert load_plan(tmp_path, make_base(tmp_path, spec, "none")) is None


@pytest.mark.parametrize("damage", ["graph", "card", "missing", "other base"])
def test_a_graph_that_is_not_the_bases_is_refused(exported, tmp_path, spec, damage):
    folder, base = exported
    content, card = (folder / "plan.onnx").read_bytes(), json.loads((folder / "plan.json").read_text())
    if damage == "graph":
        content = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    if damage == "card":
        card.pop("planner")
    if damage == "other base":
        base = make_base(tmp_path / "other", spec, "gru", seed=1)
    if damage != "missing":
        (tmp_path / "plan.onnx").write_bytes(content)
    (tmp_path / "plan.json").write_text(json.dumps(card))
    with pytest.raises(SnapshotError, match="Make it again: wm-robot export"):
        load_plan(tmp_path, base)
