"""`wm-robot bench control`: settled error of the task after a hidden change, by variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.evaluation.control import EvaluatedPlants, HiddenChange, measure_target_error
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
    """Settled error of the first task after a hidden change, with one planner for each variant."""

    episodes: Count = 100
    """Episodes for each variant and seed."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of worlds, targets and noise."""
    quick: bool = False
    """A fifth of the episodes, one seed."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.episodes >= 2, f"episodes is {self.episodes}; it must be at least 2")
        seeds = setting.seeds
        episodes = min(self.episodes, max(10, self.episodes // 5)) if self.quick else self.episodes
        arms = ("robust", self.memory, "oracle")
        bases = load_bases(setting, arms)
        scale = make_task_error(load_spec(setting.robot)).scale
        errors = _measure_variants(setting, arms, seeds, episodes, progress)
        by_arm = {name: np.concatenate(parts) for name, parts in errors.items()}
        settled = {name: _compute_settled_error(error) for name, error in by_arm.items()}
        figures = _compute_figures(settled, self.memory)
        spread = [
            _compute_figures({n: _compute_settled_error(e[i]) for n, e in errors.items()}, self.memory)
            for i in range(len(seeds))
        ]
        return Result(
            setting=setting,
            figures=figures,
            table=[_make_row(name, by_arm[name], settled[name], settled["oracle"], scale) for name in arms],
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"{episodes} episodes a variant and seed, {describe_seed_count(seeds)}; {scale.label}",
                describe_spread({name: [_read_value(of[name]) for of in spread] for name in figures}),
            ),
        )


def _measure_variants(
    setting: Setting, arms: Sequence[str], seeds: Sequence[int], episodes: int, progress: Progress
) -> dict[str, list[np.ndarray]]:
    """Compute the error of the task by variant and seed, `B T` each."""
    parts = range(0, episodes, TOGETHER)
    keys = [(name, seed, first) for seed in seeds for name in arms for first in parts]
    jobs = [(setting, name, min(TOGETHER, episodes - first), seed, first) for name, seed, first in keys]
    found = dict(zip(keys, in_processes(_run_episodes, jobs, progress), strict=True))
    return {
        name: [np.concatenate([found[name, seed, first] for first in parts]) for seed in seeds]
        for name in arms
    }


def _run_episodes(
    setting: Setting, arm: str, count: int, seed: int, first: int, *, progress: Progress
) -> np.ndarray:
    """Compute the error of the task in `count` episodes, `B T`."""
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.rollout_objective import TorchPlanner
    from wm_robot.model.torch_backend import TorchBackend

    base = load_bases(setting, [arm])[arm]
    spec = load_spec(setting.robot)
    plans = TorchPlanner(base.model, spec, task=next(iter(spec.tasks)))
    crew = BatchAgent(TorchBackend(base.model), plans, spec, seed=seed)
    sim, goals, change = make_scene(spec, count, seed, first)
    return measure_target_error(sim, crew, goals, change, task_error=make_task_error(spec), progress=progress)


def make_task_error(spec: RobotSpec) -> TaskError:
    """Return the error of a robot's first task.

    Raises:
        ConfigError: If the robot has no task.
    """
    require(bool(spec.tasks), f"robot '{spec.name}' has no task. Add one to its spec; see docs/add_a_task.md")
    return TaskError(spec, next(iter(spec.tasks.values())))


def make_scene(
    spec: RobotSpec, count: int, seed: int, first: int, *, before: float = BEFORE_S, after: float = AFTER_S
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
    sim = BatchSim(spec, old, seed=40_000 + seed, first_row=first)
    steps = round((before + after) * spec.rate)
    task = next(iter(spec.tasks.values()))
    goals = np.stack(
        [
            TaskGoals(spec, task, seed=np.random.SeedSequence([seed, 50_000, i])).compute_path(steps + 1)
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


def _compute_figures(settled: dict[str, np.ndarray], memory: str) -> dict[str, float | Comparison]:
    arms = (settled[memory], settled["robust"], settled["oracle"])
    own, robust, oracle = (float(arm.mean()) for arm in arms)
    own_median, robust_median, oracle_median = (float(np.median(arm)) for arm in arms)
    return {
        "error_vs_robust": own / robust,
        "median_vs_robust": own_median / robust_median,
        "error_vs_oracle": require_gap(own / oracle, robust, oracle),
        "median_vs_oracle": require_gap(own_median / oracle_median, robust_median, oracle_median),
    }


def _read_value(figure: float | Comparison) -> float | None:
    return figure.value if isinstance(figure, Comparison) else figure


def _make_row(
    name: str, error: np.ndarray, settled: np.ndarray, oracle: np.ndarray, scale: ErrorScale
) -> dict[str, Any]:
    second = round(error.shape[1] / (BEFORE_S + AFTER_S))
    change = round(BEFORE_S * second)

    def convert(value: Any) -> float:
        return float(scale.format_number(float(value), more_decimals=1))

    return {
        "arm": name,
        "before": convert(error[:, change - second : change].mean()),
        "second 0-1": convert(error[:, change : change + second].mean()),
        "second 1-2": convert(error[:, change + second : change + 2 * second].mean()),
        "settled mean": convert(settled.mean()),
        "settled median": convert(np.median(settled)),
        "worst tenth": convert(np.quantile(settled, 0.9)),
        "above oracle": convert(np.median(settled - oracle)),
    }
