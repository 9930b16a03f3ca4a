"""Planner quality: target errors after a hidden change, by planner."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from wm_robot.evaluation.control import EvaluatedAgents, measure_task_error
from wm_robot.evaluation.intervals import bootstrap_ratio_interval
from wm_robot.progress import Progress
from wm_robot.tasks import TaskError
from wm_robot_benchmarks.control import ARRIVED, make_scene
from wm_robot_benchmarks.harness.result import Setting, find_base_folder, load_bases
from wm_robot_benchmarks.measures.plan_timing import make_iteration_export
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot.agent.batch_agent import BatchAgent

SAMPLE_RATIO = 20
"""Ratio of samples: reference planner to default planner, and default planner to control."""
BEFORE_S, AFTER_S, SETTLED_S = 2.0, 4.0, 1.0
"""Time before the hidden change, after it, and from the change to the settled error, in s."""
TOGETHER = 8
"""Episodes in one process."""
PLANNERS = ("large", "small", "float32")
"""Planners: large and small run in torch; the third is the shipped default."""


def measure_planner_errors(
    setting: Setting, memory: str, episodes: int, content: bytes, progress: Progress
) -> dict[str, np.ndarray]:
    """Compute the target error of every planner by seed and episode, `S B T`; worlds and targets are the same.

    Args:
        content: ONNX model of the default planner.
    """
    parts = [(start, min(TOGETHER, episodes - start)) for start in range(0, episodes, TOGETHER)]
    keys = [(arm, seed, part) for arm in PLANNERS for seed in setting.seeds for part in parts]
    graph = {"float32": content}
    jobs = [(setting, memory, arm, graph.get(arm), seed, *part) for arm, seed, part in keys]
    done = dict(zip(keys, in_processes(_run_episodes, jobs, progress), strict=True))
    return {
        arm: np.stack([np.concatenate([done[arm, seed, part] for part in parts]) for seed in setting.seeds])
        for arm in PLANNERS
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
    from wm_robot.agent.backends import select_posture_backend
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.onnx_files import load_functions
    from wm_robot.agent.rollout_objective import TorchPlanner, make_posture_planner
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.robots import load_spec

    base = load_bases(setting, [memory])[memory]
    spec, planner = load_spec(setting.robot), MppiConfig()
    task = next(iter(spec.tasks))
    sim, goals, change = make_scene(spec, task, count, seed, first, before=BEFORE_S, after=AFTER_S)
    if content is None:
        samples = (
            SAMPLE_RATIO * planner.num_samples if arm == "large" else planner.num_samples // SAMPLE_RATIO
        )
        # The reference planner imagines all of its plans.
        planner = replace(planner, num_samples=samples, num_rollouts=samples)
        plans = TorchPlanner(base.model, spec, task=task, planner=planner)
        postures = make_posture_planner(base.model, spec, task=task, planner=planner)
        crew: EvaluatedAgents = BatchAgent(
            TorchBackend(base.model), plans, spec, posture_backend=postures, seed=seed
        )
    else:
        graphs = load_functions(find_base_folder(setting, memory), base)
        _, graph_of = make_iteration_export(setting, base.model, planner)
        assert graphs is not None and graphs.backend is not None
        seeds = (100 * seed + first + i for i in range(count))
        plan = graph_of(content)
        posture_plan = select_posture_backend(base, graphs, spec, task=task, plans=plan)
        crew = _AgentBatch(
            [
                BatchAgent(graphs.backend, plan, spec, posture_backend=posture_plan, seed=each)
                for each in seeds
            ]
        )
    error = TaskError(spec, spec.find_task(task))
    return measure_task_error(sim, crew, goals, change, error, progress=progress)


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


def compute_settled_target_error(error: np.ndarray) -> np.ndarray:
    """Compute the settled mean error after the change, `… T` → `…`."""
    rate = error.shape[-1] / (BEFORE_S + AFTER_S)
    return error[..., round((BEFORE_S + SETTLED_S) * rate) :].mean(-1)


def count_episodes_off_target(settled: np.ndarray) -> int:
    """Count the episodes that did not arrive at their target."""
    return int((settled > ARRIVED).sum())


def describe_ratio_interval(one: np.ndarray, other: np.ndarray) -> str:
    """Return the 95 % bootstrap interval of the ratio of two means over episodes, as text."""
    low, high = bootstrap_ratio_interval(one, other)
    return f"{low:.3f} to {high:.3f}"
