"""`wm-robot bench recall`: contexts that return, with and without a context bank."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.gap import Comparison, compute_gap_closed
from wm_robot.progress import Progress
from wm_robot.types import TrajectoryBatch
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import Result, Setting, describe_seed_count, load_bases, require
from wm_robot_cli.values import Count
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot_benchmarks.measures.context_recall import ContextVisits

ORDER = (0, 1, 0, 2, 1, 0, 3, 2, 0, 4, 1, 3, 0, 4)
"""Context of each visit: five contexts, five first visits and nine returns."""
VISIT = 400
"""Steps of a visit: 8 s."""
SETTLED = (300, 320, 340, 360, 380)
POINTS = (0, 2, 4, 6, 10, 16, 32, 48, *SETTLED)
"""Steps since the change at which to imagine; the last ones, averaged, are the settled error."""
RETURN = 10
ARMS = ("without", "bank", "another's bank")
PART = 16
"""Robots in one process."""


@dataclass(frozen=True, kw_only=True)
class RecallBench(MemoryBench, SeededBench):
    """Contexts that return without a label: how fast the error settles in them again."""

    lives: Count = 48
    """Robots for each seed, with five contexts and 14 visits."""
    quick: bool = False
    """An eighth of the robots, one seed."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        from wm_robot.evaluation.adaptation import HORIZON

        require(self.lives >= 2, f"lives is {self.lives}; it must be at least 2")
        lives = max(2, self.lives // 8) if self.quick else self.lives
        parts = [
            (seed, start, min(PART, lives - start))
            for seed in setting.seeds
            for start in range(0, lives, PART)
        ]
        jobs = [(setting, self.memory, arm, *part) for arm in ARMS for part in parts]
        base = load_bases(setting, [self.memory])[self.memory]
        done = in_processes(_measure_variant, jobs, progress)
        found = {
            arm: [visits for job, visits in zip(jobs, done, strict=True) if job[2] == arm] for arm in ARMS
        }
        errors = {arm: np.concatenate([v.errors for v in visits]) for arm, visits in found.items()}
        hours = len(setting.seeds) * lives * VISIT * len(ORDER) * base.model.config.dt / 3600
        bank = found["bank"]
        changes = len(setting.seeds) * lives * (len(ORDER) - 1)
        return Result(
            setting=setting,
            figures={
                "return_gap_closed_10": _compute_return_gap(errors["bank"], errors["without"]),
                "return_gap_closed_10_without": _compute_return_gap(errors["without"], errors["without"]),
                "false_switches_per_hour": sum(v.num_false_switches for v in bank) / hours,
                "first_visit_ratio": _compute_first_error(errors["bank"])
                / _compute_first_error(errors["without"]),
                "control_other_bank": _compute_return_gap(errors["another's bank"], errors["without"]),
            },
            table=[row for arm in ARMS for row in _make_rows(arm, errors[arm])],
            bases={self.memory: base.digest},
            notes=(
                f"{lives} robots a seed with {len(ORDER)} visits of {VISIT} steps, "
                f"{describe_seed_count(setting.seeds)}, {hours:.1f} h of robot time; error: mean square {HORIZON} "
                "steps ahead, in units of the one-step change",
                f"{sum(v.num_switches for v in bank)} switches, {sum(v.num_alarms for v in bank)} alarms, "
                f"{sum(v.num_wrong_contexts for v in bank)} of {changes} changes after which the selected context "
                "was wrong",
            ),
        )


def _measure_variant(
    setting: Setting, memory: str, arm: str, seed: int, first: int, count: int, *, progress: Progress
) -> "ContextVisits":
    from wm_robot.adaptation.context_bank import ContextBankConfig
    from wm_robot_benchmarks.measures.context_recall import measure_visits

    model = load_bases(setting, [memory])[memory].model
    lives = _generate_trajectories(setting.robot, seed, first, count)
    return measure_visits(
        model,
        lives,
        visit_steps=VISIT,
        points=POINTS,
        change_std=np.diff(lives.obs, axis=1).std((0, 1)),
        recall=None if arm == "without" else ContextBankConfig(),
        swap_banks=arm == "another's bank",
        progress=progress,
    )


def _generate_trajectories(robot: str, seed: int, first: int, count: int) -> TrajectoryBatch:
    from wm_robot.evaluation.adaptation import HORIZON
    from wm_robot.robots import load_spec
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(robot)
    draw = DomainRandomization(spec).sample
    rng = np.random.default_rng([seed, first, 30_000])
    return collect_trajectories(
        spec,
        num_trajectories=count,
        num_steps=VISIT * len(ORDER) + HORIZON,
        seed=seed * 1000 + first,
        held_out=True,
        worlds=[[draw(rng) for _ in range(max(ORDER) + 1)] for _ in range(count)],
        world_schedule=[(number * VISIT, condition) for number, condition in enumerate(ORDER)],
    )


def _list_first_points() -> tuple[int, ...]:
    """Return the steps of a first visit at which to imagine."""
    from wm_robot_benchmarks.measures.context_recall import AFTER_CHANGE

    return tuple(p for p in POINTS if p <= AFTER_CHANGE)


def _list_returns() -> list[int]:
    return [v for v, condition in enumerate(ORDER) if condition in ORDER[:v]]


def _list_first_visits() -> list[int]:
    """Return the first visits of each context, except for that of the initial state."""
    return [v for v in range(1, len(ORDER)) if v not in _list_returns()]


def _compute_return_gap(errors: np.ndarray, without: np.ndarray) -> Comparison:
    """Compute the closed part of the gap from the error at a return, before any recall, to the settled error."""
    returns = _list_returns()
    start = float(without[:, returns, 0].mean())
    settled = float(without[:, returns][..., -len(SETTLED) :].mean())
    own = float(errors[:, returns, POINTS.index(RETURN)].mean())
    return compute_gap_closed(own, start, settled, names=("at the return", "settled"))


def _compute_first_error(errors: np.ndarray) -> float:
    """Compute the mean error in the first second of first visits, except for that of the initial state."""
    return float(errors[:, _list_first_visits()][..., : len(_list_first_points())].mean())


def _make_rows(arm: str, errors: np.ndarray) -> list[dict[str, Any]]:
    visits: dict[str, list[int]] = {
        "birth": [0],
        "first": _list_first_visits(),
        "return": _list_returns(),
    }
    return [
        {"arm": arm, "visit": name}
        | {
            str(p): round(float(e), 3)
            for p, e in zip(_list_first_points(), errors[:, which].mean((0, 1)), strict=False)
        }
        | {"settled": round(float(errors[:, which][..., -len(SETTLED) :].mean()), 3)}
        for name, which in visits.items()
    ]
