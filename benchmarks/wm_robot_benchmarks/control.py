"""`wm-robot bench control`: settled error of a task after a hidden change, by variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.evaluation.control import EvaluatedPlants, HiddenChange, measure_task_error
from wm_robot.evaluation.gap import Comparison, require_gap
from wm_robot.progress import Progress
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.tasks import ErrorScale, TaskError
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.processes import in_processes
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    describe_seed_count,
    describe_spread,
    load_bases,
    require,
)
from wm_robot_cli.values import Count, Seed

BEFORE_S, AFTER_S = 4.0, 10.0
"""Time before the change, and after it, in s."""
SETTLED_S = 1.0
"""Time after the change from which the error counts as settled, in s."""
TOGETHER = 64
"""Episodes in a batch: more do not fit in the cache."""


@dataclass(frozen=True, kw_only=True)
class ControlBench(MemoryBench, SeededBench):
    """Settled error of a task after a hidden change, with one planner for each variant.

    Of `reach` it is the distance of the true gripper to its target; see docs/add_a_task.md for other rewards.
    """

    task: str | None = None
    """Task of the robot; its first by default."""
    episodes: Count = 100
    """Episodes for each variant and seed."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of worlds, targets and noise."""
    quick: bool = False
    """A fifth of the episodes, one seed."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        spec = load_spec(self.robot)
        task = choose_task(spec, self.task)
        error_of_task = TaskError(spec, spec.find_task(task))
        require(self.episodes >= 2, f"episodes is {self.episodes}; it must be at least 2")
        seeds = setting.seeds
        episodes = min(self.episodes, max(10, self.episodes // 5)) if self.quick else self.episodes
        arms = ("robust", self.memory, "oracle")
        bases = load_bases(setting, arms)
        errors = _measure_variants(setting, task, arms, seeds, episodes, progress)
        by_arm = {name: np.concatenate(parts) for name, parts in errors.items()}
        settled = {name: _compute_settled_error(error) for name, error in by_arm.items()}
        figures = _compute_figures(settled, self.memory, error_of_task.tolerance)
        spread = [
            _compute_figures(
                {n: _compute_settled_error(e[i]) for n, e in errors.items()},
                self.memory,
                error_of_task.tolerance,
            )
            for i in range(len(seeds))
        ]
        scale = error_of_task.scale
        return Result(
            setting=setting,
            figures=figures,
            table=[_make_row(name, by_arm[name], settled["oracle"], scale) for name in arms],
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"{episodes} episodes a variant and seed, {describe_seed_count(seeds)}; {scale.label}",
                f"solved: settled error of an episode at most {scale.format(error_of_task.tolerance)}",
                describe_spread({name: [_read_value(of[name]) for of in spread] for name in figures}),
            ),
        )


def choose_task(spec: RobotSpec, task: str | None = None) -> str:
    """Return a task of a robot, by default its first.

    Raises:
        ConfigError: If the robot has no task.
    """
    require(bool(spec.tasks), f"robot '{spec.name}' has no task. Add one to its spec; see docs/add_a_task.md")
    return next(iter(spec.tasks)) if task is None else task


def _measure_variants(
    setting: Setting, task: str, arms: Sequence[str], seeds: Sequence[int], episodes: int, progress: Progress
) -> dict[str, list[np.ndarray]]:
    """Compute the task error by variant and seed, `B T` each."""
    parts = range(0, episodes, TOGETHER)
    keys = [(name, seed, first) for seed in seeds for name in arms for first in parts]
    jobs = [(setting, task, name, min(TOGETHER, episodes - first), seed, first) for name, seed, first in keys]
    found = dict(zip(keys, in_processes(_run_episodes, jobs, progress), strict=True))
    return {
        name: [np.concatenate([found[name, seed, first] for first in parts]) for seed in seeds]
        for name in arms
    }


def _run_episodes(
    setting: Setting, task: str, arm: str, count: int, seed: int, first: int, *, progress: Progress
) -> np.ndarray:
    """Compute the task error of `count` episodes, `B T`."""
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.rollout_objective import TorchPlanner
    from wm_robot.model.torch_backend import TorchBackend

    base = load_bases(setting, [arm])[arm]
    spec = load_spec(setting.robot)
    plans = TorchPlanner(base.model, spec, task=task)
    crew = BatchAgent(TorchBackend(base.model), plans, spec, seed=seed)
    sim, goals, change = make_scene(spec, task, count, seed, first)
    error = TaskError(spec, spec.find_task(task))
    return measure_task_error(sim, crew, goals, change, error, progress=progress)


def make_scene(
    spec: RobotSpec,
    task: str,
    count: int,
    seed: int,
    first: int,
    *,
    before: float = BEFORE_S,
    after: float = AFTER_S,
) -> tuple[EvaluatedPlants, np.ndarray, HiddenChange]:
    """Make robots, goals `B T+1 G` and the hidden change; worlds and targets depend only on seed and episode.

    Args:
        first: Number of the first episode.
        before: Time before the change, in s.
        after: Time after it.
    """
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.task_goals import TaskGoals
    from wm_robot_sim.worlds import DomainRandomization

    draw = DomainRandomization(spec).sample
    own = range(first, first + count)
    rngs = [np.random.default_rng([seed, 30_000, i]) for i in own]
    old, new = [draw(rng) for rng in rngs], [draw(rng) for rng in rngs]
    sim = BatchSim(spec, old, seed=40_000 + seed, task=task, first_row=first)
    steps = round((before + after) * spec.rate)
    goals = np.stack(
        [
            TaskGoals(
                spec, spec.find_task(task), seed=np.random.SeedSequence([seed, 50_000, i])
            ).compute_path(steps + 1)
            for i in own
        ]
    )
    change = HiddenChange(
        step=round(before * spec.rate),
        apply=lambda: sim.set_worlds(range(count), new),
        truth_before=np.stack([world.to_vector() for world in old]),
        truth_after=np.stack([world.to_vector() for world in new]),
    )
    return sim, goals, change


def _compute_settled_error(error: np.ndarray) -> np.ndarray:
    """Compute the settled mean error of each episode after the change, `B`."""
    rate = error.shape[1] / (BEFORE_S + AFTER_S)
    return error[:, round((BEFORE_S + SETTLED_S) * rate) :].mean(1)


def _compute_figures(
    settled: dict[str, np.ndarray], memory: str, tolerance: float
) -> dict[str, float | Comparison]:
    arms = (settled[memory], settled["robust"], settled["oracle"])
    own, robust, oracle = (float(arm.mean()) for arm in arms)
    own_median, robust_median, oracle_median = (float(np.median(arm)) for arm in arms)
    return {
        "error_vs_robust": own / robust,
        "median_vs_robust": own_median / robust_median,
        "error_vs_oracle": require_gap(own / oracle, robust, oracle),
        "median_vs_oracle": require_gap(own_median / oracle_median, robust_median, oracle_median),
        "solved": _compute_solved_share(settled[memory], tolerance),
        "solved_by_robust": _compute_solved_share(settled["robust"], tolerance),
        "solved_by_oracle": _compute_solved_share(settled["oracle"], tolerance),
    }


def _compute_solved_share(settled: np.ndarray, tolerance: float) -> float:
    return float((settled <= tolerance).mean())


def _read_value(figure: float | Comparison) -> float | None:
    return figure.value if isinstance(figure, Comparison) else figure


def _make_row(name: str, error: np.ndarray, oracle: np.ndarray, scale: ErrorScale) -> dict[str, Any]:
    """Make a row of the table, in the unit of the scale.

    Args:
        error: Error of each episode, `B T`.
        oracle: Settled error of the oracle in each episode, `B`.
    """
    second = round(error.shape[1] / (BEFORE_S + AFTER_S))
    change = round(BEFORE_S * second)
    settled = _compute_settled_error(error)
    values = {
        "before": error[:, change - second : change].mean(),
        "second 0-1": error[:, change : change + second].mean(),
        "second 1-2": error[:, change + second : change + 2 * second].mean(),
        "settled mean": settled.mean(),
        "settled median": np.median(settled),
        "worst tenth": np.quantile(settled, 0.9),
        "above oracle": np.median(settled - oracle),
    }
    return {
        "arm": name,
        **{key: float(scale.format_number(float(value), more_decimals=1)) for key, value in values.items()},
    }
