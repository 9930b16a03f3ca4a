"""`wm-robot bench onboard`: run time of a plan on one thread, and its quality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wm_robot.errors import ConfigError, OnnxMismatchError
from wm_robot.evaluation.control import EvaluatedAgents, measure_target_error
from wm_robot.progress import Progress, make_part_progress
from wm_robot_benchmarks.control import make_scene
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.processes import in_processes
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    find_base_folder,
    load_bases,
    require,
    require_gripper,
)
from wm_robot_benchmarks.measures.corrupted_weights import BITS, change_weights, round_weights, shuffle_rows
from wm_robot_benchmarks.measures.timing import RunTimes, ThreadClock, time_in_turn
from wm_robot_cli.values import Count, Seed

if TYPE_CHECKING:
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.onnx_files import OnnxFunctions
    from wm_robot.agent.onnx_planner import OnnxPlanner
    from wm_robot.model.base import Base
    from wm_robot.model.world_model import WorldModel
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.training.export.plan_iteration import PlanIterationExport

LARGE_MODEL = {"memory": "gru", "width": 592, "blocks": 2}
"""4.8 M parameters: TD-MPC2's size. Source: Hansen et al. (2024), arXiv:2310.16828: 5 M parameters, and plans by
512 samples of 3 steps in 6 iterations with 64 elites."""
LARGE_PLANNER = {"samples": 512, "horizon": 3, "iterations": 6, "rounds": 0, "elites": 64}
MORE = 20
"""Ratio of samples: reference planner to default planner, and default planner to control."""
BEFORE_S, AFTER_S, SETTLED_S = 2.0, 4.0, 1.0
"""Time before the hidden change, after it, and from the change to the settled error, in s."""
NEAR = 0.015
"""Settled error above which a robot counts as not arrived, in m. A few of these dominate a mean."""
SHARES = ((0, 10), (10, 10), (20, 80))
"""Start and size of the progress of plans of both sizes and of episodes, in percent."""
TOGETHER = 8
"""Episodes in one process."""
ARMS = ("large", "small", "float32")
"""Planners: large and small run in torch; the third is the shipped default."""


class _SizeTimes(NamedTuple):
    """Run times at one model size."""

    times: dict[str, RunTimes]
    mflop: float

    @property
    def fastest_products(self) -> float:
        """Run time of the faster bare products, in ms."""
        return min(self.times[name].median for name in ("products, torch", "products, numpy"))


@dataclass(frozen=True, kw_only=True)
class OnboardBench(MemoryBench, SeededBench):
    """Run time of a plan in ONNX, compared with torch and with its matrix products; quality with few samples."""

    repetitions: Count = 200
    """Plans of each kind at the default size; an eighth at that of TD-MPC2."""
    episodes: Count = 24
    """Episodes of each planner and seed."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of worlds, targets and noise."""
    quick: bool = False
    """A quarter of the repetitions and episodes, one seed."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require_gripper(setting)
        require(self.repetitions >= 40, f"repetitions is {self.repetitions}; it must be at least 40")
        require(self.episodes >= 4, f"episodes is {self.episodes}; it must be at least 4")
        repetitions, episodes = self.repetitions, self.episodes
        if self.quick:
            repetitions, episodes = repetitions // 4, max(4, episodes // 4)
        from wm_robot.agent.onnx_files import PLAN_FILE, load_functions

        base, folder = load_bases(setting, [self.memory])[self.memory], find_base_folder(setting, self.memory)
        graphs = load_functions(folder, base)
        if graphs is None:
            raise ConfigError(f"{folder} has no graphs; make them: wm-robot export {folder}")
        shipped = (folder / PLAN_FILE).read_bytes()
        large = _make_large_model(base.model)
        first, second, third = (make_part_progress(progress, start, size, 100) for start, size in SHARES)
        sizes = {
            "default": _time_plans(setting, base.model, {}, shipped, repetitions, first),
            "TD-MPC2": _time_plans(setting, large, LARGE_PLANNER, None, repetitions // 8, second),
        }
        cycle = _time_steps(setting, base, graphs, repetitions)
        refused = _check_rejections(setting, base, shipped)
        errors = _drive_planners(setting, self.memory, episodes, shipped, third)
        settled = {arm: _compute_settled_error(error) for arm, error in errors.items()}
        # Same worlds and targets.
        default, reference = settled["float32"].ravel(), settled["large"].ravel()
        return Result(
            setting=setting,
            figures={
                **_compute_ratios(sizes["default"], ""),
                **_compute_ratios(sizes["TD-MPC2"], "_tdmpc2"),
                "plan_write_ms": cycle["plan + write"].median,
                "plan_write_p99_ms": float(np.quantile(cycle["plan + write"].wall, 0.99)),
                "quality_vs_large_planner": float(default.mean() / reference.mean()),
                "control_small_planner": float(settled["small"].mean() / reference.mean()),
                "control_wrong_graphs_refused": sum(refused.values()) / len(refused),
            },
            table=[
                *(
                    _make_times_row(size, part, t)
                    for size, timed in sizes.items()
                    for part, t in timed.times.items()
                ),
                *(_make_times_row("default", part, t) for part, t in cycle.items()),
                *(_make_error_row(arm, error) for arm, error in errors.items()),
            ],
            bases={self.memory: base.digest},
            notes=(
                "core: time that the one thread had a core; ratios are of its medians, measured in turn in one "
                "process",
                "; ".join(
                    f"{size}: {timed.mflop:.0f} MFLOP of products a plan" for size, timed in sizes.items()
                ),
                f"{len(reference)} episodes of {BEFORE_S + AFTER_S:.0f} s with a hidden change; 95 % of their "
                f"resamples: quality_vs_large_planner {_bootstrap_interval(default, reference)}",
                f"of the graph {_count_stuck(default)} stayed away, of the large planner {_count_stuck(reference)}",
                "rejected by the export check: "
                + ", ".join(f"{name} {'yes' if yes else 'NO'}" for name, yes in refused.items()),
            ),
        )


def _compute_ratios(timed: _SizeTimes, suffix: str) -> dict[str, float]:
    torch, graph = (timed.times[name].median for name in ("torch", "float32"))
    return {
        f"ratio_to_floor{suffix}": graph / timed.fastest_products,
        f"speedup_vs_torch{suffix}": torch / graph,
    }


def _make_large_model(like: "WorldModel") -> "WorldModel":
    """Make an untrained model of TD-MPC2's size."""
    import torch

    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel

    torch.manual_seed(0)
    shape = ModelConfig.from_dict(like.config.to_dict() | LARGE_MODEL)
    return WorldModel(shape).eval().requires_grad_(False)


def _time_plans(
    setting: Setting,
    model: "WorldModel",
    sizes: Mapping[str, int],
    content: bytes | None,
    repetitions: int,
    progress: Progress,
) -> _SizeTimes:
    """Time whole plans from one state: in torch, in ONNX, and the matrix products alone.

    Args:
        content: ONNX model, if there is one.
    """
    import torch

    from wm_robot.agent.onnx_planner import LAST_ACTION_INPUT, MEAN_INPUT, NOISE_INPUT
    from wm_robot.memory.lifetime_state import LifetimeState
    from wm_robot.model.onnx_session import STATE_PREFIX
    from wm_robot.model.torch_backend import to_array
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot_benchmarks.measures.graph_products import list_matrix_products

    planner = MppiConfig(**sizes)
    iteration, graph_of = _make_iteration(setting, model, planner)
    moment = iteration.sample_arguments(0)
    noises = [iteration.sample_arguments(seed)[NOISE_INPUT] for seed in range(planner.iterations)]
    given = {name: to_array(value) for name, value in moment.items()}
    drawn = [noise.numpy() for noise in noises]
    state = LifetimeState.unflatten(
        {
            name.removeprefix(STATE_PREFIX): value
            for name, value in given.items()
            if name.startswith(STATE_PREFIX)
        }
    )

    def plan_in_torch(folded: bool) -> object:
        found = moment[MEAN_INPUT]
        with torch.inference_mode():
            for noise in noises:
                found = iteration(*(moment | {MEAN_INPUT: found, NOISE_INPUT: noise}).values(), folded=folded)
        return found

    def make_onnx_plan(graph: "OnnxPlanner") -> Callable[[], object]:
        def plan() -> object:
            improve, found = graph.iteration_at(state, given["obs"], given["goals"]), given[MEAN_INPUT]
            for noise in drawn:
                found = improve(found, noise, given[LAST_ACTION_INPUT])
            return found

        return plan

    content = content or iteration.export_graph()
    found = list_matrix_products(content) * planner.iterations
    shapes = [((p.rows, p.inner), (p.inner, p.columns), (p.rows, p.columns)) for p in found]
    rng = np.random.default_rng(0)
    factors = [[rng.normal(size=shape).astype(np.float32) for shape in each] for each in shapes]
    tensors = [[torch.from_numpy(array) for array in each] for each in factors]

    def make_product(product: Callable[..., object], factors: Sequence[Any]) -> Callable[[], None]:
        def multiply() -> None:
            for left, right, out in factors:
                product(left, right, out=out)

        return multiply

    functions: dict[str, Callable[[], object]] = {
        "torch": partial(plan_in_torch, False),
        "torch, folded": partial(plan_in_torch, True),
        "float32": make_onnx_plan(graph_of(content)),
        "products, torch": make_product(torch.mm, tensors),
        "products, numpy": make_product(np.matmul, factors),
    }
    return _SizeTimes(time_in_turn(functions, repetitions, progress), sum(p.flops for p in found) / 1e6)


def _make_iteration(
    setting: Setting, model: "WorldModel", planner: "MppiConfig"
) -> tuple["PlanIterationExport", Callable[[bytes], "OnnxPlanner"]]:
    """Return a planner's iteration for the robot's first task, and a function that opens ONNX models of it."""
    from wm_robot.agent.onnx_planner import OnnxPlanner, digest_objective
    from wm_robot.model.onnx_session import OnnxFunction
    from wm_robot.robots import load_spec
    from wm_robot.training.export.plan_iteration import PlanIterationExport

    spec = load_spec(setting.robot)
    task = next(iter(spec.tasks))
    objective = digest_objective(spec, task)
    return (
        PlanIterationExport(model, spec, task=task, planner=planner),
        lambda content: OnnxPlanner(OnnxFunction(content, "plan"), objective=objective, planner=planner),
    )


def _check_rejections(setting: Setting, base: "Base", content: bytes) -> dict[str, bool]:
    """Check that the export check rejects wrong ONNX models, and accepts the right one."""
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.training.export.base_graphs import check_planner_graph

    iteration, graph_of = _make_iteration(setting, base.model, MppiConfig())
    check_planner_graph(iteration, graph_of(content))
    refused = {}
    for name, change in ((f"{BITS} bits", round_weights), ("shuffled", shuffle_rows)):
        try:
            check_planner_graph(iteration, graph_of(change_weights(content, change)))
            refused[name] = False
        except OnnxMismatchError:
            refused[name] = True
    return refused


def _time_steps(
    setting: Setting, base: "Base", graphs: "OnnxFunctions", repetitions: int
) -> dict[str, RunTimes]:
    """Time the control steps of an agent with default settings."""
    from wm_robot.agent.agent import Agent
    from wm_robot.robots import load_spec

    spec = load_spec(setting.robot)
    task = next(iter(spec.tasks))
    times: dict[str, RunTimes] = {}
    for suffix, recall in (("", True), (", no recall", False)):
        agent = Agent(base, spec, task=task, functions=graphs, use_context_bank=recall)
        sim, goals, _ = make_scene(spec, 1, 0, 0, before=1.0, after=repetitions * spec.dt)
        agent.begin(sim.last_action[0])
        acting, living = [], []
        for goal in goals[0]:
            obs = sim.obs[0].copy()
            clock = ThreadClock()
            action = agent.act(obs, goal)
            acting.append(clock())
            next_obs, applied = sim.step(action[None])
            clock = ThreadClock()
            agent.observe(obs, applied[0], next_obs[0])
            living.append(clock())
        act, live = (np.array(part)[-repetitions:] for part in (acting, living))
        times |= {f"act{suffix}": RunTimes.from_seconds(act), f"live{suffix}": RunTimes.from_seconds(live)}
        times[f"plan + write{suffix}"] = RunTimes.from_seconds(act + live)
    return times


class _AgentBatch:
    """Batch of agents of one robot each: ONNX models have a batch of one."""

    def __init__(self, agents: Sequence["BatchAgent"]):
        self._agents = agents

    def begin(self, last_action: np.ndarray, truth: np.ndarray | None = None) -> None:
        for i, agent in enumerate(self._agents):
            agent.begin(last_action[i : i + 1])

    def act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.concatenate([a.act(obs[i : i + 1], goal[i : i + 1]) for i, a in enumerate(self._agents)])

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, truth: np.ndarray | None = None
    ) -> None:
        for i, agent in enumerate(self._agents):
            agent.observe(*(x[i : i + 1] for x in (obs, applied, next_obs)))


def _drive_planners(
    setting: Setting, memory: str, episodes: int, content: bytes, progress: Progress
) -> dict[str, np.ndarray]:
    """Compute the target error of every planner by seed and episode, `S B T`; worlds and targets are the same.

    Args:
        content: ONNX model of the default planner.
    """
    parts = [(start, min(TOGETHER, episodes - start)) for start in range(0, episodes, TOGETHER)]
    keys = [(arm, seed, part) for arm in ARMS for seed in setting.seeds for part in parts]
    graph = {"float32": content}
    jobs = [(setting, memory, arm, graph.get(arm), seed, *part) for arm, seed, part in keys]
    done = dict(zip(keys, in_processes(_run_episodes, jobs, progress), strict=True))
    return {
        arm: np.stack([np.concatenate([done[arm, seed, part] for part in parts]) for seed in setting.seeds])
        for arm in ARMS
    }


def _run_episodes(
    setting: Setting,
    memory: str,
    arm: str,
    content: bytes | None,
    seed: int,
    first: int,
    count: int,
    *,
    progress: Progress,
) -> np.ndarray:
    """Compute the target error of `count` episodes, `B T`, in m."""
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.onnx_files import load_functions
    from wm_robot.agent.rollout_objective import TorchPlanner
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.robots import load_spec

    base = load_bases(setting, [memory])[memory]
    spec, planner = load_spec(setting.robot), MppiConfig()
    task = next(iter(spec.tasks))
    sim, goals, change = make_scene(spec, count, seed, first, before=BEFORE_S, after=AFTER_S)
    if content is None:
        samples = MORE * planner.samples if arm == "large" else planner.samples // MORE
        # The reference planner imagines all of its plans.
        planner = replace(planner, samples=samples, imagined=samples)
        plans = TorchPlanner(base.model, spec, task=task, planner=planner)
        crew: EvaluatedAgents = BatchAgent(TorchBackend(base.model), plans, spec, seed=seed)
    else:
        graphs = load_functions(find_base_folder(setting, memory), base)
        _, graph_of = _make_iteration(setting, base.model, planner)
        assert graphs is not None and graphs.life is not None
        seeds = (100 * seed + first + i for i in range(count))
        crew = _AgentBatch([BatchAgent(graphs.life, graph_of(content), spec, seed=each) for each in seeds])
    return measure_target_error(sim, crew, goals, change, progress=progress)


def _compute_settled_error(error: np.ndarray) -> np.ndarray:
    """Compute the settled mean error after the change, `… T` → `…`."""
    rate = error.shape[-1] / (BEFORE_S + AFTER_S)
    return error[..., round((BEFORE_S + SETTLED_S) * rate) :].mean(-1)


def _count_stuck(settled: np.ndarray) -> int:
    """Count the episodes that did not arrive at their target."""
    return int((settled > NEAR).sum())


def _bootstrap_interval(one: np.ndarray, other: np.ndarray) -> str:
    """Return the 95 % bootstrap interval of the ratio of two means over episodes, as text."""
    rng = np.random.default_rng(0)
    rows = rng.integers(len(one), size=(2000, len(one)))
    low, high = np.quantile(one[rows].mean(1) / other[rows].mean(1), [0.025, 0.975])
    return f"{low:.3f} to {high:.3f}"


def _make_times_row(size: str, part: str, times: RunTimes) -> dict[str, Any]:
    return {
        "size": size,
        "part": part,
        "core ms": round(times.median, 3),
        "core p99": round(float(np.quantile(times.core, 0.99)), 3),
        "wall ms": round(float(np.median(times.wall)), 3),
        "wall p99": round(float(np.quantile(times.wall, 0.99)), 3),
    }


def _make_error_row(arm: str, error: np.ndarray) -> dict[str, Any]:
    settled = _compute_settled_error(error)
    return {
        "planner": arm,
        "error mm": round(1000 * float(error.mean()), 2),
        "settled mm": round(1000 * float(settled.mean()), 2),
        "settled median": round(1000 * float(np.median(settled)), 2),
    }
