"""The graphs of a base compute what torch does, from any life; files that are not the base's are refused."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from tests.agent.exports import PLANNER, in_one_worker, make_base
from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import UPDATE_FILES, load_functions
from wm_robot.agent.onnx_planner import OnnxPlanner
from wm_robot.errors import OnnxMismatchError, SnapshotError
from wm_robot.io.durable import compute_digest
from wm_robot.io.tensor_file import parse_tensors
from wm_robot.memory.lifetime_state import map_values
from wm_robot.model.backend import Prediction
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.graph_weights import BaseWeights, read_references
from wm_robot.model.onnx_backend import OnnxBackend
from wm_robot.model.onnx_session import OnnxFunction, compute_max_difference
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec, Task
from wm_robot.training.export import base_graphs
from wm_robot.training.export.base_graphs import (
    MAX_DIFFERENCE,
    NUM_CHECK_STEPS,
    NUM_REFERENCE_STEPS,
    check_graphs,
    export_graphs,
)
from wm_robot.training.export.plan_iteration import PlanIterationExport
from wm_robot.training.export.update_step import UpdateStepExport
from wm_robot.training.export.weight_sharing import inline_weights
from wm_robot.types import Step

REFINED = replace(PLANNER, horizon=3, refine_iterations=2)
"""Where a model cares little what is done, as one does that is untrained, its last digits hang on rounding."""


def with_weights_times(factor, content, base):
    """A graph of the same steps with other weights, which it contains."""
    model = onnx.load_from_string(inline_weights(content, BaseWeights(base.weights)))
    for weight in model.graph.initializer:
        value = onnx.numpy_helper.to_array(weight)
        if value.ndim == 2 and value.dtype == np.float32:
            weight.CopyFrom(onnx.numpy_helper.from_array(value * np.float32(factor), weight.name))
    return model.SerializeToString()


def floats(*shape):
    return np.zeros(shape, np.float32)


def acted(base, spec, graphs, planner=PLANNER, steps=30):
    agent = Agent(base, spec, task="reach", planner=planner, functions=graphs)
    agent.begin(np.zeros(1, np.float32))
    rng, actions = np.random.default_rng(0), []
    obs = rng.normal(size=(steps + 1, 2)).astype(np.float32)
    for t in range(steps):
        actions.append(agent.act(obs[t], np.array([0.5, 0.5, 0.0], np.float32)))
        agent.observe(obs[t], actions[-1], obs[t + 1])
    return np.stack(actions)


def test_a_life_driven_by_the_graph_is_the_one_driven_by_torch(exported, spec):
    folder, base = exported
    graphs = load_functions(folder, base)
    np.testing.assert_allclose(acted(base, spec, graphs), acted(base, spec, None), atol=1e-3)


def test_the_graphs_are_what_plans_and_lives(exported, spec, monkeypatch):
    folder, base = exported
    graphs = load_functions(folder, base)
    monkeypatch.setattr("wm_robot.agent.rollout_objective.make_objective", None)
    for name in ("update", "predict", "imagine"):
        monkeypatch.setattr(base.model, name, None)
    acted(base, spec, graphs, steps=2)


def test_another_search_than_the_exported_one_is_planned_in_torch(exported, spec):
    folder, base = exported
    graphs, other = (
        load_functions(folder, base),
        MppiConfig(num_samples=8, horizon=4, num_iterations=1, num_elites=4),
    )
    assert not graphs.plan.is_valid_for(spec, task="reach", planner=other)
    in_torch = graphs._replace(backend=None)
    np.testing.assert_array_equal(acted(base, spec, in_torch, other, 3), acted(base, spec, None, other, 3))


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
    graph = load_functions(folder, base).plan
    assert graph.is_valid_for(spec, task="reach", planner=PLANNER)
    assert graph.is_valid_for(spec, task="reach", planner=replace(PLANNER, num_iterations=7))
    assert not graph.is_valid_for(replace(spec, **change), task="reach", planner=PLANNER)


def test_plans_that_tie_are_no_reason_for_nan(exported, spec):
    folder, base = exported
    graphs = load_functions(folder, base)
    state = graphs.backend.initial_state(initial_action=floats(1, 1))
    improve = graphs.plan.iteration_at(state, floats(1, 2), floats(1, 4, 3) + np.float32(0.5))
    mean = floats(1, 4, 1) + np.float32(0.05)
    better = improve(mean, floats(1, PLANNER.num_samples, 4, 1), floats(1, 1))
    np.testing.assert_allclose(better, mean, rtol=1e-5)


KINDS = ("ridge", "ekf")
"""One of each kind of graph: a plan without a life, a life with factorisations. `export_function` is a plain one."""
ALIKE = ("delta", "gru", "hope", "kalman", "kv")
"""An export takes half a minute."""


@pytest.fixture(
    scope="module",
    params=[*map(in_one_worker, KINDS), *(in_one_worker(each, pytest.mark.soak) for each in ALIKE)],
)
def family(request, tmp_path_factory, spec):
    """Name, base and graphs of a family."""
    folder = tmp_path_factory.mktemp("family")
    base = make_base(folder, spec, request.param)
    export_graphs(folder, base, spec, task="reach", planner=REFINED, num_steps=20)
    return request.param, base, load_functions(folder, base)


def test_every_family_plans_and_lives_by_graphs(family, spec):
    name, base, graphs = family
    assert (graphs.backend is None) == (name in ("hope", "ridge"))
    # Rounding grows from plan to plan, since each begins from the one before.
    by_graph, by_torch = (acted(base, spec, each, REFINED) for each in (graphs, None))
    np.testing.assert_allclose(by_graph, by_torch, atol=1e-2)


@pytest.mark.parametrize("steps", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_a_life_by_graph_ends_where_that_by_torch_does(family, steps):
    name, base, graphs = family
    if graphs.backend is None:
        return
    if name == "ekf":
        # Hypotheses that are as good as each other are told apart by rounding: each step begins where torch is.
        assert (
            np.max(
                UpdateStepExport(base.model).compute_differences(graphs.backend, num_steps=min(steps, 300))
            )
            <= 1e-4
        )
        return
    lives, rng, apart = TorchBackend(base.model), np.random.default_rng(0), []
    by_torch, by_graph = (each.initial_state(initial_action=floats(1, 1)) for each in (lives, graphs.backend))
    for t in range(steps):
        obs, action, next_obs = (rng.standard_normal((1, n), np.float32) for n in (2, 1, 2))
        lived = Step(obs, action, next_obs, np.array([t % 5 > 0], np.float32))
        expected, by_torch = lives.update(by_torch, lived)
        likewise, by_graph = graphs.backend.update(by_graph, lived)
        apart.append(np.abs(expected.mean - likewise.mean).max())
    assert np.max(apart) <= 1e-4
    assert by_torch.step == by_graph.step == steps * 4 // 5


def test_graphs_of_a_life_with_a_residual_compute_what_torch_does(family, spec, monkeypatch):
    name, base, graphs = family
    initial_state, generator = base.model.initial_state, torch.Generator().manual_seed(1)
    zero = initial_state(initial_action=torch.zeros(1, 1)).residual
    random = map_values(lambda value: 0.3 * torch.randn(value.shape, generator=generator), zero)
    step, iteration = (
        UpdateStepExport(base.model),
        PlanIterationExport(base.model, spec, task="reach", planner=REFINED),
    )
    monkeypatch.setattr(
        base.model, "initial_state", lambda **options: initial_state(**options).with_residual(random)
    )
    if graphs.backend is not None:
        # That a newborn has no residual, as the graphs have it, is the first difference.
        assert np.max(step.compute_differences(graphs.backend, 100)[1:]) < 1e-4
    assert np.max(iteration.compute_differences(graphs.plan, bound=1e-4)) <= 1e-4


@pytest.mark.parametrize("memory", ["ridge", pytest.param("kalman", marks=pytest.mark.soak)])
def test_a_robot_without_goals_and_servos_has_a_graph_too(tmp_path, memory):
    joint = {"position": [-9.0, 9.0], "velocity": 9.0, "effort": 1.0}
    pole = RobotSpec.from_dict(
        {
            "name": "pole",
            "rate": 50,
            "model": "pole.xml",
            "joints": [{"name": "cart", **joint}, {"name": "pole", **joint}],
            "actuators": [
                {"name": "cart", "joint": "cart", "kind": "effort", "range": [-1.0, 1.0], "rate": 50.0}
            ],
            "tasks": {"swingup": {"reward": "swingup", "goal": 0}},
        }
    )
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(pole, truth=1, memory=memory, width=16, context=4, outcome=8)
    save_base(tmp_path, WorldModel(shape), pole, {})
    base = load_base(tmp_path)
    export_graphs(tmp_path, base, pole, task="swingup", planner=PLANNER, num_steps=20)
    found = []
    for graphs in (load_functions(tmp_path, base), None):
        agent = Agent(base, pole, task="swingup", planner=PLANNER, functions=graphs)
        agent.begin(np.zeros(1, np.float32))
        found.append(agent.act(np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.zeros(0, np.float32)))
    np.testing.assert_allclose(*found, atol=1e-3)


@pytest.mark.parametrize("error", [0.01, float("nan")])
@pytest.mark.parametrize("part", ["plan", "update"])
def test_an_export_that_computes_something_else_is_refused(
    exported, tmp_path, spec, monkeypatch, error, part
):
    folder, base = exported
    for kind, made, file in (
        (PlanIterationExport, "export_graph", "plan.onnx"),
        (UpdateStepExport, "export_predict", "predict.onnx"),
    ):
        content = (folder / file).read_bytes()
        monkeypatch.setattr(kind, made, lambda _, content=content: content)
    writes = {lives: (folder / file).read_bytes() for lives, file in UPDATE_FILES.items()}
    monkeypatch.setattr(UpdateStepExport, "export_update", lambda _, num_rows: writes[num_rows])
    predict = TorchBackend(base.model).predict
    wrong = {
        "plan": (OnnxPlanner, "iteration_at", lambda *_: lambda mean, noise, hold: mean + np.float32(error)),
        "update": (
            OnnxBackend,
            "predict",
            lambda _, *given: Prediction(*(x + np.float32(error) for x in predict(*given))),
        ),
    }
    monkeypatch.setattr(*wrong[part])
    # Those of an earlier base would keep an agent of this one from starting.
    for name in ("plan.onnx", "predict.onnx", "graphs.json"):
        (tmp_path / name).write_text('{"base": "an earlier one"}')
    with pytest.raises(OnnxMismatchError, match=f"the exported {part} differs from torch by"):
        export_graphs(tmp_path, base, spec, task="reach", planner=PLANNER, num_steps=5)
    assert not list(tmp_path.iterdir()) and load_functions(tmp_path, base) is None


def test_a_refused_export_leaves_the_graphs_that_are_the_bases(exported, tmp_path, spec, monkeypatch):
    folder, base = exported
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    plan = (folder / "plan.onnx").read_bytes()
    monkeypatch.setattr(PlanIterationExport, "export_graph", lambda _: plan)
    monkeypatch.setattr(PlanIterationExport, "compute_differences", lambda *_, **__: [0.1])
    for made in ("export_predict", "export_update"):
        monkeypatch.setattr(UpdateStepExport, made, lambda *_: (folder / "update.onnx").read_bytes())
    with pytest.raises(OnnxMismatchError, match="the exported plan differs"):
        export_graphs(tmp_path, base, spec, task="reach", planner=PLANNER, num_steps=5)
    assert load_functions(tmp_path, base) is not None


class InTorch(OnnxBackend):
    """What lives by a model in place of graphs."""

    def __init__(self, model):
        lives = TorchBackend(model)
        self.initial_state, self.predict, self.update = lives.initial_state, lives.predict, lives.update


def rounded_life(step):
    """The same life, whose weights are rounded otherwise."""
    model, generator = deepcopy(step.model), torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data *= 1 + 1e-7 * torch.randn(weight.shape, generator=generator)
    return InTorch(model)


def exported_life(step):
    writes = {lives: OnnxFunction(step.export_update(lives), "write") for lives in UPDATE_FILES}
    return OnnxBackend(OnnxFunction(step.export_predict(), "predict"), writes, step.make_initial_arrays())


@pytest.mark.parametrize("likewise", [rounded_life, pytest.param(exported_life, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("memory", "factor", "bound"),
    [
        # A rounding of 1e-7 becomes 1e-3 within a few steps.
        ("gru", 100, MAX_DIFFERENCE / 10),
        # A rounding decides which of two hypotheses is the better one, and they are far apart.
        pytest.param("ekf", 10, MAX_DIFFERENCE, marks=pytest.mark.soak),
    ],
)
def test_an_unstable_life_is_compared_with_what_rounding_does_to_it_in_torch(
    tmp_path, spec, memory, factor, bound, likewise
):
    model = make_base(tmp_path, spec, memory).model
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= factor
    step = UpdateStepExport(model)
    graph = likewise(step)
    assert max(step.compute_differences(graph, 80)) > bound
    assert max(step.compute_differences(graph, 80, bound=bound)) <= bound
    # Where most steps would need that excuse, none has it.
    assert step.compute_differences(graph, 20, bound=1e-9) == step.compute_differences(graph, 20)
    for weight in model.parameters():
        weight.data *= 1.01
    assert max(step.compute_differences(graph, 80, bound=bound)) > 10 * MAX_DIFFERENCE


def test_what_rounding_excuses_is_no_other_plan(family, spec):
    _, base, _ = family
    iteration = PlanIterationExport(base.model, spec, task="reach", planner=REFINED)
    content = (Path(base.folder) / "plan.onnx").read_bytes()

    def furthest(content):
        function = OnnxFunction(content, "plan", BaseWeights(base.weights))
        graph = OnnxPlanner(function, objective="", planner=REFINED)
        return max(iteration.compute_differences(graph, bound=1e-4))

    assert furthest(content) <= 1e-4 < 1e-3 < furthest(with_weights_times(1.01, content, base))


def test_graphs_of_an_earlier_version_say_so(exported, tmp_path):
    folder, base = exported
    for path in (*folder.glob("*.onnx"), folder / "initial_state.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = json.loads((folder / "graphs.json").read_text()) | {"format": 4}
    (tmp_path / "graphs.json").write_text(json.dumps(card))
    with pytest.raises(SnapshotError, match="have format 4, this version reads 10.*wm-robot export"):
        load_functions(tmp_path, base)


@pytest.mark.parametrize("name", ["arm-gru", "arm-semiparametric", "so101-semiparametric"])
def test_graphs_that_ship_compute_what_torch_does(name, monkeypatch):
    monkeypatch.setattr(base_graphs, "has_reference", lambda: False)
    base = load_base(name)
    found = check_graphs(base.folder, base, load_spec(name.partition("-")[0]), num_steps=40)
    assert max(found.values()) <= MAX_DIFFERENCE
    assert ("update" in found) == (name not in ("hope", "ridge"))


def test_graphs_refer_to_the_weights_of_their_base(exported):
    folder, base = exported
    for name in ("plan.onnx", "predict.onnx", *UPDATE_FILES.values()):
        references = read_references((folder / name).read_bytes())
        assert references and {each.tensor for each in references.values()} <= base.model.state_dict().keys()
    without = replace(base, weights=save({}))
    with pytest.raises(
        SnapshotError, match="the base has no tensor .* Export it again: wm-robot export BASE"
    ):
        load_functions(folder, without)


def test_no_graphs_are_no_error(tmp_path, spec):
    assert load_functions(tmp_path, make_base(tmp_path, spec, "null")) is None


@pytest.mark.parametrize(
    "damage", ["plan.onnx", "update.onnx", "initial_state.safetensors", "card", "missing", "other base"]
)
def test_graphs_that_are_not_the_bases_are_refused(exported, tmp_path, spec, damage):
    folder, base = exported
    card = json.loads((folder / "graphs.json").read_text())
    for name in card["sha256"]:
        content = (folder / name).read_bytes()
        if damage == name:
            content = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        if damage != "missing":
            (tmp_path / name).write_bytes(content)
    if damage == "card":
        card["plans"]["reach"].pop("planner")
    if damage == "other base":
        base = make_base(tmp_path / "other", spec, "gru", seed=1)
    (tmp_path / "graphs.json").write_text(json.dumps(card))
    with pytest.raises(SnapshotError, match="Export them again: wm-robot export"):
        load_functions(tmp_path, base)


@pytest.mark.parametrize(
    ("steps", "few"), [(200, 5), pytest.param(NUM_CHECK_STEPS, NUM_REFERENCE_STEPS, marks=pytest.mark.soak)]
)
def test_what_is_beside_a_base_is_its_parity_from_birth_over_a_life(exported, spec, steps, few):
    folder, base = exported
    found = check_graphs(folder, base, spec, num_steps=steps, num_reference_steps=few)
    assert found.keys() == {"plan", "update", "plan by the reference", "update by the reference"}
    assert max(found.values()) <= 1e-4


@pytest.mark.parametrize("part", ["initial_state.safetensors", *UPDATE_FILES.values()])
def test_a_graph_that_drifted_is_refused(exported, tmp_path, spec, part):
    folder, base = exported
    # A card that says so is not believed: the file is that of other weights.
    card = json.loads((folder / "graphs.json").read_text())
    for name in card["sha256"]:
        content = (folder / name).read_bytes()
        if name == part == "initial_state.safetensors":
            content = save({name: value + 1 for name, value in parse_tensors(content, name).items()})
        elif name == part:
            content = with_weights_times(1.5, content, base)
        (tmp_path / name).write_bytes(content)
        card["sha256"][name] = compute_digest(content)
    (tmp_path / "graphs.json").write_text(json.dumps(card))
    with pytest.raises(SnapshotError, match="the exported update differs from torch by"):
        check_graphs(tmp_path, base, spec, num_steps=5)


def test_nan_differs_from_all_but_nan():
    nan = np.array([1.0, np.nan])
    assert compute_max_difference(nan, nan) == 0
    assert np.isnan(compute_max_difference(nan, np.ones(2))) and np.isnan(
        compute_max_difference(np.ones(2), nan)
    )
    assert compute_max_difference(np.array([np.inf, 200.0]), np.array([np.inf, 201.0])) == 1 / 200
