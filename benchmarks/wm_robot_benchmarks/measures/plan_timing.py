"""Plan timing: run times of plans in torch, in ONNX and as bare matrix products, and of an agent's control steps."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wm_robot.progress import Progress
from wm_robot_benchmarks.control import make_scene
from wm_robot_benchmarks.harness.result import Setting
from wm_robot_benchmarks.measures.timing import RunTimes, ThreadClock, time_in_turn

if TYPE_CHECKING:
    from wm_robot.agent.onnx_files import OnnxFunctions
    from wm_robot.agent.onnx_planner import OnnxPlanner
    from wm_robot.model.base import Base
    from wm_robot.model.world_model import WorldModel
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.training.export.plan_iteration import PlanIterationExport


class SizeTimes(NamedTuple):
    """Run times at one model size."""

    times: dict[str, RunTimes]
    mflop: float

    @property
    def fastest_products(self) -> float:
        """Run time of the faster bare products, in ms."""
        return min(self.times[name].median for name in ("products, torch", "products, numpy"))


def make_large_model(like: "WorldModel") -> "WorldModel":
    """Make an untrained model of TD-MPC2's size.

    Source: Hansen et al. (2024), arXiv:2310.16828: 5 M parameters. Differs: 4.8 M.
    """
    import torch

    from wm_robot.model.world_model import WorldModel

    torch.manual_seed(0)
    shape = replace(like.config, memory="gru", width=592, blocks=2)
    return WorldModel(shape).eval().requires_grad_(False)


def make_large_planner() -> "MppiConfig":
    """Make a planner of TD-MPC2's size.

    Source: Hansen et al. (2024), arXiv:2310.16828: 512 samples of 3 steps in 6 iterations with 64 elites.
    """
    from wm_robot.planning.mppi import MppiConfig

    return MppiConfig(num_samples=512, horizon=3, num_iterations=6, refine_iterations=0, num_elites=64)


def time_plans(
    setting: Setting,
    model: "WorldModel",
    planner: "MppiConfig",
    content: bytes | None,
    repetitions: int,
    progress: Progress,
) -> SizeTimes:
    """Time whole plans from one state: in torch, in ONNX, and the matrix products alone.

    Args:
        content: ONNX model, if there is one.
    """
    import torch

    from wm_robot.agent.onnx_planner import LAST_ACTION_INPUT, MEAN_INPUT, NOISE_INPUT
    from wm_robot.memory.lifetime_state import LifetimeState
    from wm_robot.model.onnx_session import STATE_PREFIX
    from wm_robot.model.torch_backend import to_array
    from wm_robot_benchmarks.measures.graph_products import list_matrix_products

    iteration, graph_of = make_iteration_export(setting, model, planner)
    moment = iteration.sample_arguments(0)
    noises = [iteration.sample_arguments(seed)[NOISE_INPUT] for seed in range(planner.num_iterations)]
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
    found = list_matrix_products(content) * planner.num_iterations
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
    return SizeTimes(time_in_turn(functions, repetitions, progress), sum(p.flops for p in found) / 1e6)


def make_iteration_export(
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


def time_control_steps(
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
        sim, goals, _ = make_scene(spec, task, 1, 0, 0, before=1.0, after=repetitions * spec.dt)
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
