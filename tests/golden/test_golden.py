"""Golden files: predictions, plans and restored states of every shipped base, equal to the bit.

Made before a change by `python tests/golden/test_golden.py --write`, and compared after it. Without an option the
same command prints, for each base, whether it is equal to the bit and by how much it differs. `stream.npz` holds the
recorded observations and actions that all bases are given; `--write` leaves it as it is if it is there.

Results are compared to the bit on the processor and the versions of numpy, torch and onnxruntime that made the
files, and within `TOLERANCE` elsewhere. Names of the library are in the first part of this file, down to `named`; the
keys of a lifetime state are in `PLACES`, `PARTS` and `SINGLE`. A renaming changes those and no golden file.
"""

import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

import onnxruntime

from wm_robot import robots, types
from wm_robot.adaptation.transition_filter import TransitionFilter
from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import load_functions
from wm_robot.agent.plan_monitor import PlanMonitor
from wm_robot.agent.plan_prediction import LastPlan, predict_plan
from wm_robot.agent.rollout_objective import TorchPlanner
from wm_robot.model.base import load_base
from wm_robot.model.torch_backend import TorchBackend, to_tensors
from wm_robot.model.uncertainty import predict_uncertainty
from wm_robot.planning.mppi import Mppi, MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
TASK = "reach"
BASES = (
    "arm-gru",
    "arm-oracle",
    "arm-robust",
    "arm-semiparametric",
)
ORACLE = "arm-oracle"
CLOSED_LOOP, PLANT = "arm-semiparametric", "arm-robust"
"""Base of the run in which the agent moves a robot, and the base whose predictions are that robot."""

Arrays = dict[str, np.ndarray]

PLACES = {"now": "", "bank": "bank.slots.", "draft": "bank.draft."}
"""Place in a lifetime state → prefix of its keys."""
PARTS = {
    "first down": "residual.first.down",
    "first up": "residual.first.up",
    "last down": "residual.last.down",
    "last up": "residual.last.up",
    "read down": "residual.read.0.down",
    "read up": "residual.read.0.up",
    "ekf covariance": "0.covariance",
    "ekf mean": "0.mean",
    "ekf score": "0.score",
    "physics": "0.physics",
    "recurrent": "0.s",
    "correction": "0.correction",
    "correction weights": "0.weights",
    "correction covariance": "0.weight_covariance",
    "hypothesis error": "0.error",
    "frozen error": "0.frozen_error",
    "frozen": "0.frozen",
    "command map": "0.command_map",
    "map": "0.map",
    "map covariance": "0.map_covariance",
    "map error": "0.map_error",
    "map in use": "0.map_in_use",
    "map correction": "0.map_weights",
    "map correction covariance": "0.map_weight_covariance",
}
"""Part that each place may have → its key behind the prefix."""
SINGLE = {
    "steps": "step",
    "recent actions": "recent",
    "slot last used": "bank.last_used",
    "slot in use": "bank.current",
    "steps without alarm": "bank.calm_steps",
    "switches": "bank.switches",
    "alarms": "bank.alarms",
    "slot lead": "bank.lead",
    "slot short": "bank.shortfall",
    "excess": "bank.excess",
    "planner noise": "planner_noise",
}
"""Part that a state has once → its key."""
STATE_NAMES = SINGLE | {
    f"{place} {part}": prefix + key for place, prefix in PLACES.items() for part, key in PARTS.items()
}
"""Name in the golden files → key of a lifetime state."""


class Step(NamedTuple):
    """One recorded transition."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    valid: np.float32


class Model:
    """A shipped base: its model in torch, its ONNX graphs, and agents of it."""

    def __init__(self, name: str):
        self.folder = ROOT / "bases" / name
        self.spec = load_spec()
        self.base = load_base(self.folder)
        self.graphs = load_functions(self.folder, self.base)
        self.backends = {"torch": TorchBackend(self.base.model)}
        if self.graphs.backend is not None:
            self.backends["graph"] = self.graphs.backend

    def plan_searches(self) -> dict[str, Any]:
        """What improves plans, by backend."""
        planned = TorchPlanner(self.base.model, self.spec, task=TASK, planner=MppiConfig())
        return {"torch": planned, "graph": self.graphs.plan}

    def agent(self, seed: int = 0) -> Agent:
        """An agent as the agent node makes it with its default parameters."""
        return Agent(
            self.base,
            self.spec,
            task=TASK,
            planner=MppiConfig(),
            functions=self.graphs,
            transition_filter=TransitionFilter(self.spec),
            plan_monitor=PlanMonitor(self.spec, task=TASK),
            seed=seed,
        )

    @property
    def graduate(self) -> Path | None:
        """Store with the graduate of this base."""
        folder = self.folder / "pretrained"
        return folder if folder.exists() else None


def load_spec() -> RobotSpec:
    return robots.load_spec(ROOT / "wm_robot/robots/arm.yaml")


def make_state(backend: Any, hold: np.ndarray, truth: np.ndarray | None) -> Any:
    return backend.initial_state(initial_action=hold[None], truth=truth)


def write_step(
    backend: Any, state: Any, step: Step, truth: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Prediction of a transition, mean and log variance, and the state after it."""
    batch = (step.obs[None], step.action[None], step.next_obs[None], step.valid[None])
    expected, state = backend.update(state, types.Step(*batch, truth=truth))
    return expected.mean[0], expected.log_variance[0], state


def imagine_by_steps(
    backend: Any, state: Any, obs: np.ndarray, plan: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation after each action of a plan, `H O` each."""
    found = predict_plan(backend, LastPlan(state, obs[None], plan[None]))
    return found.mean, found.deviation


@torch.inference_mode()
def imagine_in_torch(model: Model, state: Any, obs: np.ndarray, plans: np.ndarray) -> Arrays:
    """What the model expects of plans, `N H A`, and its doubt about the first."""
    network, lived = model.base.model, to_tensors(state)
    z, actions = network.observe(lived, torch.from_numpy(obs[None])), torch.from_numpy(plans[None])
    followed, doubted = (
        network.imagine(lived, z, actions),
        predict_uncertainty(network, lived, z, actions[:, 0]),
    )
    return {
        "imagined mean": followed.mean[0].numpy(),
        "imagined log variance": followed.log_variance[0].numpy(),
        "doubted log variance": doubted.log_variance[0].numpy(),
    }


@torch.inference_mode()
def scan_in_torch(
    model: Model, state: Any, obs: np.ndarray, action: np.ndarray, valid: np.ndarray, truth: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """The whole stream at once, as in training: mean, log variance and the state after it."""
    stream = (torch.from_numpy(each[None]) for each in (obs, action, valid))
    told = None if truth is None else torch.from_numpy(truth)[:, None].expand(-1, len(obs), -1)
    found, after = model.base.model.scan(to_tensors(state), *stream, told)
    return (
        found.mean[0].numpy(),
        found.log_variance[0].numpy(),
        {k: v.numpy() for k, v in after.flatten().items()},
    )


def make_planner(spec: RobotSpec, seed: int) -> Mppi:
    return Mppi(
        MppiConfig(), low=spec.action_low, high=spec.action_high, max_step=spec.action_step, seed=seed
    )


def plan_once(
    planner: Mppi, search: Any, state: Any, obs: np.ndarray, goals: np.ndarray, hold: np.ndarray
) -> np.ndarray:
    """The next plan, `H A`."""
    return planner.plan(search.iteration_at(state, obs[None], goals[None]), hold[None])[0]


def begin_agent(agent: Agent, hold: np.ndarray, restore: Path | None = None) -> None:
    agent.begin(hold, restore)


def choose_action(agent: Agent, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return agent.act(obs, goal)


def observe_step(agent: Agent, step: Step, *, intervention: bool = False, hurry: bool = False) -> float:
    """Surprise of a transition, nats per channel."""
    valid = bool(step.valid)
    return agent.observe(*step[:3], valid=valid, intervention=intervention, skip_optional=hurry).nll


def read_counters(agent: Agent) -> np.ndarray:
    """Lived, watched and invalid steps; saturated, stuck and intervention; plans, broken off and alarms."""
    names = "num_steps num_valid num_invalid saturated stuck intervention plans plans_excluded alarms"
    return np.array([agent.counters[name] for name in names.split()])


def read_judgement(agent: Agent) -> np.ndarray:
    """What the watch of plans found last: promised, kept, gap and insensitive."""
    judged = agent._plan_monitor.score
    return np.concatenate([judged.predicted, judged.realised, judged.gap, judged.uncorrelated])


def read_state(agent: Agent) -> Arrays:
    return name_parts(agent.state.flatten())


def save_agent(agent: Agent, store: Path) -> None:
    agent.save(store)


def load_state(store: Path) -> Arrays:
    return name_parts(Store(store).load())


def name_parts(state: Mapping[str, np.ndarray]) -> Arrays:
    """A lifetime state by its names in the golden files."""
    names = {key: name for name, key in STATE_NAMES.items()}
    return {names[key]: state[key] for key in state}


STEPS, LIVED = 40, 30
"""Recorded steps, and how many of them a model is given before it imagines and plans."""
INVALID, INTERVENTION, HURRY, STOP = 20, 4, (8, 17), 28
"""Steps of an agent's run at which something happens; at `STOP` one agent is saved and another restored."""


CLOSED, WEAK = 300, range(100, 180)
"""Steps of the run in which the agent moves a robot, and those at which the robot is weak."""


class Plant:
    """A robot that moves as a base without memory expects, with noise; joints may be weak."""

    def __init__(self, hold: np.ndarray, seed: int):
        self._backend = Model(PLANT).backends["graph"]
        self._state, self._random = make_state(self._backend, hold, None), np.random.default_rng(seed)
        self.obs = np.concatenate([hold, np.zeros_like(hold)])

    def move(self, action: np.ndarray, strength: float = 1.0) -> np.ndarray:
        """The observation after an action."""
        still = Step(self.obs, np.float32(strength) * action, self.obs, np.float32(0))
        mean, log_variance, self._state = write_step(self._backend, self._state, still, None)
        noise = 0.3 * np.exp(0.5 * log_variance) * self._random.standard_normal(len(mean), np.float32)
        self.obs = (mean + noise).astype(np.float32)
        return self.obs


def make_stream() -> Arrays:
    """Observations, actions, goals and candidate plans that all bases are given."""
    spec, random = load_spec(), np.random.default_rng(24)
    low, high, largest = spec.action_low, spec.action_high, spec.action_step
    action, speed, actions = np.zeros(6, np.float32), np.zeros(6), []
    plant = Plant(action, 25)
    for _ in range(STEPS):
        speed = np.clip(0.8 * speed + 0.15 * largest * random.standard_normal(6), -largest, largest)
        action = np.clip(action + speed, low, high).astype(np.float32)
        actions.append(action)
    obs = np.stack([plant.obs, *map(plant.move, actions)])
    t = np.arange(STEPS + 10) * spec.dt
    goals = np.stack([0.25 + 0.03 * np.sin(t), 0.1 * np.cos(2 * t), 0.25 + 0.05 * t], 1)
    ways = np.cumsum(0.4 * largest * random.standard_normal((2, 8, 6)), 1)
    valid = np.ones(STEPS, np.float32)
    valid[INVALID] = 0
    return {
        "obs": obs,
        "action": np.stack(actions),
        "valid": valid,
        "goal": goals.astype(np.float32),
        "plans": np.clip(actions[LIVED - 1] + ways, low, high).astype(np.float32),
        "truth": (0.5 * random.standard_normal((1, 46))).astype(np.float32),
    }


@functools.cache
def load_stream() -> Arrays:
    return read_arrays(HERE / "stream.npz")


def iterate_steps(stream: Arrays, count: int) -> Iterator[Step]:
    for t in range(count):
        yield Step(stream["obs"][t], stream["action"][t], stream["obs"][t + 1], stream["valid"][t])


def record_base(name: str) -> Arrays:
    """All results of a base."""
    torch.set_num_threads(1)
    model, stream, found = Model(name), load_stream(), {}
    truth = stream["truth"] if name == ORACLE else None
    states = {}
    for kind, backend in model.backends.items():
        results, states[kind] = record_stream(backend, stream, truth)
        found |= {f"{kind} {key}": value for key, value in results.items()}
    found |= record_in_torch(model, states["torch"], stream, truth)
    found |= record_plans(model, states, stream)
    if name != ORACLE:
        # Its agent needs the true physics, which only experiments pass.
        found |= record_agent(model, stream)
    if model.graduate is not None:
        found |= record_graduate(model, model.graduate, stream)
    if name == CLOSED_LOOP:
        found |= record_closed_loop(model, stream)
    return found


def record_stream(backend: Any, stream: Arrays, truth: np.ndarray | None) -> tuple[Arrays, Any]:
    """Predictions, the state after them, and one plan imagined from there step by step."""
    state, means, spreads = make_state(backend, stream["action"][0], truth), [], []
    for step in iterate_steps(stream, LIVED):
        mean, spread, state = write_step(backend, state, step, truth)
        means.append(mean)
        spreads.append(spread)
    ahead, deviation = imagine_by_steps(backend, state, stream["obs"][LIVED], stream["plans"][0])
    found = {"mean": np.stack(means), "log variance": np.stack(spreads)}
    found |= {"stepped mean": ahead, "stepped deviation": deviation}
    return found | summarise_arrays("state", name_parts(state.flatten())), state


def record_in_torch(model: Model, state: Any, stream: Arrays, truth: np.ndarray | None) -> Arrays:
    """What only torch computes: plans side by side, and the stream at once."""
    found = imagine_in_torch(model, state, stream["obs"][LIVED], stream["plans"])
    born = make_state(model.backends["torch"], stream["action"][0], truth)
    lived = (stream["obs"][: LIVED + 1], stream["action"][:LIVED], stream["valid"][:LIVED])
    mean, spread, after = scan_in_torch(model, born, *lived, truth)
    return found | summarise_arrays("scan", name_parts(after) | {"mean": mean, "log variance": spread})


def record_plans(model: Model, states: Mapping[str, Any], stream: Arrays) -> Arrays:
    """Planned sequences at the five observations after the stream, by graph and in torch."""
    found = {}
    for kind, search in model.plan_searches().items():
        planner, state = make_planner(model.spec, 3), states.get(kind, states["torch"])
        planned = []
        for t in range(LIVED, LIVED + 5):
            goals, hold = stream["goal"][t : t + MppiConfig().horizon], stream["action"][t - 1]
            planned.append(plan_once(planner, search, state, stream["obs"][t], goals, hold))
        found[f"plan by {kind}"] = np.stack(planned)
    return found


def run_agent(
    agent: Agent, stream: Arrays, first: int, last: int, *, events: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Actions and surprises of an agent that is given recorded observations and recorded steps."""
    actions, surprises = [], []
    steps = list(iterate_steps(stream, last))
    for t in range(first, last):
        actions.append(choose_action(agent, steps[t].obs, stream["goal"][t]))
        intervention, hurry = events and t == INTERVENTION, events and t in HURRY
        surprises.append(observe_step(agent, steps[t], intervention=intervention, hurry=hurry))
    return np.stack(actions), np.array(surprises)


def record_agent(model: Model, stream: Arrays) -> Arrays:
    """An agent that is never stopped, and one that goes on from what the first saved on its way."""
    whole, restored = model.agent(), model.agent(seed=1)
    begin_agent(whole, stream["action"][0])
    early = run_agent(whole, stream, 0, STOP)
    with tempfile.TemporaryDirectory() as folder:
        save_agent(whole, Path(folder))
        begin_agent(restored, stream["action"][STOP - 3 : STOP], Path(folder))
        noise = load_state(Path(folder))["planner noise"]
    late, resumed = (run_agent(each, stream, STOP, STEPS) for each in (whole, restored))
    check_resumed(late[1], resumed[1], read_state(whole), read_state(restored))
    return {
        "agent action": np.concatenate([early[0], late[0]]),
        "agent surprise": np.concatenate([early[1], late[1]]),
        "agent counters": read_counters(whole),
        "saved noise": noise,
        "restored action": resumed[0],
        **summarise_arrays("agent end", read_state(whole)),
    }


def check_resumed(late: np.ndarray, resumed: np.ndarray, whole: Arrays, restored: Arrays) -> None:
    """Saved, restored and continued equals never stopped. Plans differ at first, since a plan is not saved."""
    np.testing.assert_array_equal(resumed, late)
    assert restored.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(restored[name], value, err_msg=name)


def record_graduate(model: Model, store: Path, stream: Arrays) -> Arrays:
    """The graduate as it is in its store, and an agent that goes on from it for a few steps."""
    agent = model.agent()
    begin_agent(agent, stream["action"][0], store)
    action, surprise = run_agent(agent, stream, 0, 6, events=False)
    found = summarise_arrays("graduate", load_state(store)) | summarise_arrays(
        "graduate end", read_state(agent)
    )
    return found | {"graduate action": action, "graduate surprise": surprise}


def record_closed_loop(model: Model, stream: Arrays) -> Arrays:
    """An agent that moves a robot, which is weak for a while, for so long that its plans are judged."""
    agent, hold = model.agent(), np.zeros(6, np.float32)
    plant = Plant(hold, 26)
    begin_agent(agent, hold)
    actions = []
    for t in range(CLOSED):
        obs, goal = plant.obs, stream["goal"][0 if t % 120 < 60 else -1]
        actions.append(choose_action(agent, obs, goal))
        after = plant.move(actions[-1], 0.6 if t in WEAK else 1.0)
        observe_step(agent, Step(obs, actions[-1], after, np.float32(1)))
    found = summarise_arrays("closed loop end", read_state(agent) | {"action": np.stack(actions)})
    return found | {
        "closed loop counters": read_counters(agent),
        "closed loop judgement": read_judgement(agent),
    }


NAMES, SHA, SKETCH, SMALL = " names", " sha256", " sketch", " small"
SIDES = 4
"""Numbers of a sketch; nothing else has rows of so many."""
WHOLE = 18
"""Largest size of a state array that is kept whole."""
TOLERANCE = 1e-4
LOOSER = {"arm-semiparametric": 5e-3}
"""Base whose covariances let differences of rounding grow, and its tolerance."""
SMALLEST = 1e-2
"""Differences are parts of the largest value, or of this where that is smaller."""
SEARCHED, PLANS = 1e-2, 5
"""Tolerance of the median of the first plans. Rounding decides which of two near-equal candidates is among the best,
and each search begins from the plan before it, so that single plans and later ones are not comparable."""
RESIDUE = " low"
"""End of the names of arrays that hold what rounding left of others: they have a digest and no sketch."""
NOTHING = np.zeros(SIDES, np.float32)


def summarise_arrays(title: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Of each array a SHA-256 and a sketch of its numbers; and the small ones whole, one after another."""
    names = sorted(arrays)
    small = [arrays[name].ravel() for name in names if arrays[name].size <= WHOLE]
    return {
        title + NAMES: np.array(names),
        title + SHA: np.stack([digest_array(arrays[name]) for name in names]),
        title + SKETCH: np.stack(
            [sketch_array(arrays[n]) if not n.endswith(RESIDUE) else NOTHING for n in names]
        ),
        title + SMALL: np.concatenate([np.zeros(0), *small]),
    }


def digest_array(value: np.ndarray) -> np.ndarray:
    """SHA-256 of type, shape and bytes."""
    content = f"{value.dtype.str} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes()
    return np.frombuffer(hashlib.sha256(content).digest(), np.uint8)


@functools.cache
def make_directions(size: int) -> np.ndarray:
    """Fixed vectors without a generator, whose numbers could change with its version."""
    return np.cos(np.arange(1, size + 1) * np.array([[1.0], [2**0.5], [3**0.5]]))


def sketch_array(value: np.ndarray) -> np.ndarray:
    """Norm, and products with three fixed vectors."""
    flat = value.ravel().astype(np.float64)
    sides = make_directions(1 << max(10, flat.size.bit_length()))[:, : flat.size] @ flat
    return np.array([np.sqrt((flat**2).sum()), *sides], np.float32)


def describe_machine() -> str:
    """Versions and processor that decide how numbers are rounded."""
    wanted = ("vendor_id", "cpu family", "model", "model name", "flags", "cache size", "Features")
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    processor = sorted({line for line in lines if line.partition(":")[0].strip() in wanted})
    return json.dumps(
        {
            "numpy": np.__version__,
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": os.environ["OMP_NUM_THREADS"],
            "processor": hashlib.sha256("\n".join(processor).encode()).hexdigest()[:16],
        }
    )


def find_differences(
    found: Arrays, golden: Arrays, *, exact: bool, tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Results that are not those of the golden file, and by how much, as a part of their largest value."""
    different = {}
    for name in sorted(found.keys() | golden.keys()):
        if name not in found or name not in golden:
            different[name] = np.inf
        elif not is_same(found[name], golden[name], name, exact=exact, tolerance=tolerance):
            different[name] = float(relative_difference(found[name], golden[name]).max(initial=0))
    return different


def is_same(one: np.ndarray, golden: np.ndarray, name: str, *, exact: bool, tolerance: float) -> bool:
    """Whether a result is equal to the bit, or near enough where it need not be."""
    if one.dtype != golden.dtype or one.shape != golden.shape:
        return False
    if exact or one.dtype.kind in "US":
        return one.tobytes() == golden.tobytes()
    if name.startswith("closed loop") or name.endswith(SHA):
        # Rounding grows in a loop, and changes every digest.
        return True
    far = relative_difference(one, golden)
    if "plan by" in name or name.endswith(" action"):
        # A row is a plan, or its first action.
        return bool(np.median(far[:PLANS].reshape(PLANS, -1).max(1)) <= SEARCHED)
    return bool((far <= tolerance).all())


def relative_difference(one: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """Differences, as parts of the largest value: of each row in a sketch, and of the whole in all else."""
    if one.dtype.kind not in "fiu" or one.shape != golden.shape:
        return np.array([np.inf])
    one, golden = one.astype(np.float64), golden.astype(np.float64)
    size = np.abs(golden)
    scale = size.max(-1, keepdims=True) if one.shape[-1:] == (SIDES,) else size.max(initial=0)
    # NaN is equal to NaN alone, and infinity to itself.
    same = (one == golden) | (np.isnan(one) & np.isnan(golden))
    with np.errstate(invalid="ignore"):
        far = np.abs(one - golden) / np.maximum(scale, SMALLEST)
    return np.where(same, 0, np.nan_to_num(far, nan=np.inf))


def read_arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def read_golden(name: str) -> tuple[Arrays, bool]:
    """Golden results of a base, and whether this machine must give them to the bit."""
    golden = read_arrays(HERE / f"{name}.npz")
    return golden, str(golden.pop("fingerprint")) == describe_machine()


@pytest.mark.parametrize("name", BASES)
def test_a_shipped_base_predicts_plans_and_resumes_as_recorded(name):
    golden, exact = read_golden(name)
    assert (
        find_differences(record_base(name), golden, exact=exact, tolerance=LOOSER.get(name, TOLERANCE)) == {}
    )


def test_every_shipped_base_of_the_arm_has_a_golden_file():
    shipped = {card.parent.name for card in (ROOT / "bases").glob("arm-*/base.json")}
    assert shipped == set(BASES) == {path.stem for path in HERE.glob("*.npz")} - {"stream"}


@pytest.mark.parametrize("key", ["torch mean", "plan by graph", "agent action", "agent end" + SHA])
def test_a_result_that_differs_in_its_last_bit_is_refused(key):
    golden, _ = read_golden("arm-gru")
    changed = golden | {key: golden[key].copy()}
    changed[key].reshape(-1).view(np.uint8)[0] ^= 1
    assert find_differences(golden, golden, exact=True) == {}
    assert list(find_differences(changed, golden, exact=True)) == [key]
    assert find_differences(changed, golden, exact=False) == {}


@pytest.mark.parametrize("key", ["torch mean", "graph log variance", "agent surprise", "agent end" + SKETCH])
def test_a_result_that_differs_by_more_than_rounding_is_refused_on_every_machine(key):
    golden, _ = read_golden("arm-gru")
    changed = golden | {key: golden[key] * np.float32(1 + 3 * TOLERANCE)}
    assert list(find_differences(changed, golden, exact=False)) == [key]


@pytest.mark.parametrize("key", ["plan by graph", "agent action"])
def test_plans_that_differ_by_more_than_a_search_does_are_refused_on_every_machine(key):
    golden, _ = read_golden("arm-gru")
    changed = golden | {key: golden[key] + np.float32(3 * SEARCHED)}
    assert list(find_differences(changed, golden, exact=False)) == [key]


def test_a_result_that_is_missing_is_refused():
    golden, _ = read_golden("arm-gru")
    for one, other in ((golden, {}), ({}, golden)):
        assert find_differences(one, other, exact=False).keys() == golden.keys()


def write_golden_files() -> None:
    """Make the golden files."""
    if not (HERE / "stream.npz").exists():
        np.savez_compressed(HERE / "stream.npz", **make_stream())
    for name in BASES:
        found = record_base(name)
        np.savez_compressed(HERE / f"{name}.npz", fingerprint=np.array(describe_machine()), **found)


def compare_golden_files() -> int:
    """Print how each base compares; 1 if one is refused."""
    refused = False
    for name in BASES:
        golden, exact = read_golden(name)
        found = record_base(name)
        near = LOOSER.get(name, TOLERANCE)
        bits, allowed = (
            find_differences(found, golden, exact=each, tolerance=near) for each in (True, False)
        )
        refused |= bool(bits if exact else allowed)
        shown = ", ".join(f"{key} {value:.1e}" for key, value in bits.items()) or "equal to the bit"
        print(f"{name}: {shown}" + (f"; refused: {sorted(allowed)}" if allowed else ""))
    return int(refused)


if __name__ == "__main__":
    sys.exit(write_golden_files() if "--write" in sys.argv else compare_golden_files())
