"""A family of memory that is one file, here this one, and one line in the registry."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import load_functions
from wm_robot.memory.film import FilmReadout
from wm_robot.memory.memory import Memory
from wm_robot.memory.registry import FAMILIES, MemoryFamily
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.training.export.base_graphs import export_graphs
from wm_robot.training.train_config import TrainConfig
from wm_robot.training.trainer import Trainer
from wm_robot.types import TrajectoryBatch

PLANNER = MppiConfig(num_samples=16, horizon=2, num_iterations=1, refine_iterations=0, num_elites=4)
STEPS = 40


class MeanMemory(Memory):
    """The mean of what was seen, which modulates a hidden layer."""

    def __init__(self, *, width, outcome, dt):
        super().__init__()
        self.target = torch.nn.Linear(width + outcome, 8)
        self.film = FilmReadout(width, 8)

    @property
    def film_readout(self):
        return self.film

    def initial_state(self, batch):
        return {"sum": torch.zeros(batch, 8), "count": torch.ones(batch, 1)}

    def open_reader(self, state):
        return self.film.open_reader(state["sum"] / state["count"], state)

    def scan(self, state, h, e, w):
        reads = []
        for t in range(h.shape[1]):
            reads.append(self.read(state, h[:, t : t + 1]))
            seen, weight = torch.cat([h[:, t], e[:, t]], 1), w[:, t, None]
            new = {"sum": state["sum"] + self.target(seen).tanh(), "count": state["count"] + weight}
            written = {name: torch.where(weight > 0, new[name], state[name]) for name in new}
            state = state | written
        return torch.cat(reads, 1), {name: state[name] for name in ("sum", "count")}


class TorchMeanMemory(MeanMemory):
    """The same, said to have no graph."""

    exportable = False


@pytest.fixture(params=["MeanMemory", "TorchMeanMemory"])
def family(request, monkeypatch):
    monkeypatch.setitem(FAMILIES, "mean", MemoryFamily(__name__, request.param))
    return FAMILIES["mean"]


def point_lives(count=8):
    rng = np.random.default_rng(0)
    action = rng.normal(size=(count, STEPS, 1)).astype(np.float32)
    position = np.concatenate([np.zeros((count, 1, 1), np.float32), np.cumsum(0.1 * action, 1)], 1)
    return TrajectoryBatch(
        obs=np.concatenate([position, np.gradient(position, axis=1)], 2),
        action=action,
        initial_action=np.zeros((count, 1), np.float32),
        goal=np.zeros((count, STEPS + 1, 3), np.float32),
        physics=np.zeros((count, 1, 1), np.float32),
        world=np.zeros((count, STEPS), np.int64),
    )


class PointLives:
    """Where the training of these tests comes from."""

    def describe_round(self, number):
        return {"kind": "point", "round": number}

    def __call__(self, number, model):
        return point_lives()


@pytest.fixture
def base(family, tmp_path, spec):
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(spec, truth=1, memory="mean", width=16, context=4, outcome=8)
    config = TrainConfig(
        updates=3, batch_size=4, segment_steps=16, horizon=4, checkpoint_interval=2, collect_at=()
    )
    training = Trainer(
        WorldModel(shape),
        config,
        folder=tmp_path / "run",
        data=tmp_path / "data",
        trajectory_source=PointLives(),
    )
    before = training.model.memories[0].target.weight.clone()
    list(training.run())
    assert (training.model.memories[0].target.weight - before).abs().max() > 0
    save_base(tmp_path / "base", training.model.eval().requires_grad_(False), spec, {})
    return load_base(tmp_path / "base")


def live(agent, first, last):
    obs, action = (part[0] for part in (point_lives(1).obs, point_lives(1).action))
    return [agent.observe(obs[t], action[t], obs[t + 1]).nll for t in range(first, last)]


def test_it_trains_exports_is_lived_saved_and_restored(family, base, tmp_path, spec):
    folder = tmp_path / "base"
    export_graphs(folder, base, spec, task="reach", planner=PLANNER, num_steps=20)
    graphs = load_functions(folder, base)
    assert (graphs.backend is not None) == family.memory_class.exportable
    whole, restored = (Agent(base, spec, task="reach", planner=PLANNER, functions=graphs) for _ in range(2))
    assert ("family 'mean' has no graph" in whole.torch_reason) == (not family.memory_class.exportable)
    whole.begin(np.zeros(1, np.float32))
    live(whole, 0, 20)
    whole.save(tmp_path / "state")
    restored.begin(whole.state.recent[0], tmp_path / "state")
    assert live(whole, 20, 30) == live(restored, 20, 30)
    assert whole.counters["num_steps"] == 30
    found = restored.state.flatten()
    assert {"0.sum", "0.count", "residual.read.0.up", "bank.slots.0.sum"} <= found.keys()
    for name, value in whole.state.flatten().items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
