"""`wm-robot bench control`: settled target error after a hidden change, by variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.evaluation.control import Change, Plants, target_error
from wm_robot.evaluation.gap import Comparison, against
from wm_robot.progress import Progress, unreported
from wm_robot.spec import RobotSpec
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.processes import in_processes
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    bases_of,
    count_of,
    needs,
    needs_gripper,
    spread_in_words,
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
    """Settled target error after a hidden change, with one planner for each variant."""

    episodes: Count = 100
    """Episodes for each variant and seed."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of worlds, targets and noise."""
    quick: bool = False
    """A fifth of the episodes, one seed."""

    def run(self, setting: Setting, *, progress: Progress) -> Result:
        return run(setting, self.memory, self.episodes, progress=progress)


def run(setting: Setting, memory: str, episodes: int, *, progress: Progress = unreported) -> Result:
    """See `wm-robot bench control --help`."""
    needs_gripper(setting)
    needs(episodes >= 2, f"episodes is {episodes}; it must be at least 2")
    seeds = setting.seeds
    episodes = min(episodes, max(10, episodes // 5)) if setting.quick else episodes
    arms = ("robust", memory, "oracle")
    bases = bases_of(setting, arms)
    errors = _lived(setting, arms, seeds, episodes, progress)
    by_arm = {name: np.concatenate(parts) for name, parts in errors.items()}
    settled = {name: _settled(error) for name, error in by_arm.items()}
    figures = _figures(settled, memory)
    spread = [_figures({n: _settled(e[i]) for n, e in errors.items()}, memory) for i in range(len(seeds))]
    return Result(
        setting=setting,
        figures=figures,
        table=[_row(name, by_arm[name], settled[name], settled["oracle"]) for name in arms],
        bases={name: base.digest for name, base in bases.items()},
        notes=(
            f"{episodes} episodes a variant and seed, {count_of(seeds)}; true gripper to target, in mm",
            spread_in_words({name: [_value(of[name]) for of in spread] for name in figures}),
        ),
    )


def _lived(
    setting: Setting, arms: Sequence[str], seeds: Sequence[int], episodes: int, progress: Progress
) -> dict[str, list[np.ndarray]]:
    """Compute the target error by variant and seed, `B T` each."""
    parts = range(0, episodes, TOGETHER)
    keys = [(name, seed, first) for seed in seeds for name in arms for first in parts]
    jobs = [(setting, name, min(TOGETHER, episodes - first), seed, first) for name, seed, first in keys]
    found = dict(zip(keys, in_processes(_episodes, jobs, progress), strict=True))
    return {
        name: [np.concatenate([found[name, seed, first] for first in parts]) for seed in seeds]
        for name in arms
    }


def _episodes(
    setting: Setting, arm: str, count: int, seed: int, first: int, *, progress: Progress
) -> np.ndarray:
    """Compute the target error of `count` episodes, `B T`, in m."""
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.rollout_objective import ImaginedPlans
    from wm_robot.model.torch_backend import ModelLives
    from wm_robot.robots import load_spec

    base = bases_of(setting, [arm])[arm]
    spec = load_spec(setting.robot)
    plans = ImaginedPlans(base.model, spec, task=next(iter(spec.tasks)))
    crew = BatchAgent(ModelLives(base.model), plans, spec, seed=seed)
    sim, goals, change = scene(spec, count, seed, first)
    return target_error(sim, crew, goals, change, progress=progress)


def scene(
    spec: RobotSpec, count: int, seed: int, first: int, *, before: float = BEFORE_S, after: float = AFTER_S
) -> tuple[Plants, np.ndarray, Change]:
    """Make robots, goals `B T+1 G` and the hidden change; worlds and targets depend only on seed and episode.

    Args:
        first: Number of the first episode.
        before: Time before the change, in s.
        after: Time after it.
    """
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.goals import MovingTarget
    from wm_robot_sim.worlds import WorldDistribution

    draw = WorldDistribution(spec).sample
    own = range(first, first + count)
    rngs = [np.random.default_rng([seed, 30_000, i]) for i in own]
    old, new = [draw(rng) for rng in rngs], [draw(rng) for rng in rngs]
    sim = BatchSim(spec, old, seed=40_000 + seed, first_row=first)
    steps = round((before + after) * spec.rate)
    goals = np.stack(
        [MovingTarget(spec, seed=np.random.SeedSequence([seed, 50_000, i])).path(steps + 1) for i in own]
    )
    change = Change(
        step=round(before * spec.rate),
        apply=lambda: sim.set_worlds(range(count), new),
        truth_before=np.stack([world.vector() for world in old]),
        truth_after=np.stack([world.vector() for world in new]),
    )
    return sim, goals, change


def _settled(error: np.ndarray) -> np.ndarray:
    """Compute the settled mean error of each episode after the change, `B`."""
    rate = error.shape[1] / (BEFORE_S + AFTER_S)
    return error[:, round((BEFORE_S + SETTLED_S) * rate) :].mean(1)


def _figures(settled: dict[str, np.ndarray], memory: str) -> dict[str, float | Comparison]:
    arms = (settled[memory], settled["robust"], settled["oracle"])
    own, robust, oracle = (float(arm.mean()) for arm in arms)
    own_median, robust_median, oracle_median = (float(np.median(arm)) for arm in arms)
    return {
        "error_vs_robust": own / robust,
        "median_vs_robust": own_median / robust_median,
        "error_vs_oracle": against(own / oracle, robust, oracle),
        "median_vs_oracle": against(own_median / oracle_median, robust_median, oracle_median),
    }


def _value(figure: float | Comparison) -> float | None:
    return figure.value if isinstance(figure, Comparison) else figure


def _row(name: str, error: np.ndarray, settled: np.ndarray, oracle: np.ndarray) -> dict[str, Any]:
    second = round(error.shape[1] / (BEFORE_S + AFTER_S))
    change = round(BEFORE_S * second)
    return {
        "arm": name,
        "before": _mm(error[:, change - second : change].mean()),
        "second 0-1": _mm(error[:, change : change + second].mean()),
        "second 1-2": _mm(error[:, change + second : change + 2 * second].mean()),
        "settled mean": _mm(settled.mean()),
        "settled median": _mm(np.median(settled)),
        "worst tenth": _mm(np.quantile(settled, 0.9)),
        "above oracle": _mm(np.median(settled - oracle)),
    }


def _mm(metres: Any) -> float:
    return round(1000 * float(metres), 1)
