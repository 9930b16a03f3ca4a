"""`wm-robot bench memory --task linear`: all families and least squares on random linear systems that change."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.evaluation.adaptation import Variant, compute_error_after_false_history, compute_error_by_step
from wm_robot.evaluation.gap import Comparison, compute_gap_closed
from wm_robot.progress import Progress, make_part_progress
from wm_robot.types import TrajectoryBatch
from wm_robot_benchmarks.harness.result import Result, Setting, describe_seed_count
from wm_robot_benchmarks.measures.linear_task import (
    INPUTS,
    NOISE,
    NUMBERS,
    STATES,
    compute_least_squares_errors,
    compute_model_errors,
    generate_linear_trajectories,
)
from wm_robot_benchmarks.measures.toy_tasks import ToyTask
from wm_robot_cli.worker_processes import in_processes

STILL = {
    "0": (0, 1),
    "4-8": (4, 8),
    "16-32": (16, 32),
    "48-64": (48, 64),
    "448-512": (448, 512),
    "2016-2048": (2016, 2048),
}
"""Steps in one system over which errors are averaged."""
AFTER = {"0": (0, 1), "8-32": (8, 32), "32-64": (32, 64), "192-256": (192, 256)}
"""Steps after a change."""
REGIME, REGIMES = 256, 8
EARLY, LATE = (1, 2, 3), (5, 6, 7)
"""Changes whose errors are averaged: the second to fourth system of a trajectory, and the sixth to eighth."""
LIVES, LIFE = 8192, 512
"""Number of training updates."""
TESTED, TEST_SEED = 128, 1000
TEST_AS_UPDATES = 150
"""Number of updates that take about as long as one of the two tests under a seed."""
LIVED = 448
"""Steps of false history of the controls."""


def compare_on_linear_systems(
    setting: Setting, families: Sequence[str], updates: int, work: Path, progress: Progress
) -> Result:
    """Train families on random linear systems, and compare them with each other and with least squares.

    Args:
        updates: Updates of each training.
        work: Folder of the trainings; finished ones are reused.
    """
    updates = updates // 50 if setting.quick else updates
    jobs = [(setting.seeds, family, updates, work) for family in families]
    rows = [_measure_least_squares(setting.seeds, name, **how) for name, how in LEAST_SQUARES.items()]
    rows += in_processes(_measure_linear_family, jobs, progress)
    of = {row["arm"]: row for row in rows}
    best_after = min(families, key=lambda family: of[family]["change 32-64"])
    best_still = min(families, key=lambda family: of[family]["448-512"])
    controls = {
        name: _select_largest({family: of[family].pop(name) for family in families}) for name in CONTROLS
    }
    return Result(
        setting=setting,
        figures={
            "after_change_vs_rls": of[best_after]["change 32-64"] / of["rls"]["change 32-64"],
            "stationary_vs_oracle": of[best_still]["448-512"] / of["oracle"]["448-512"],
            **controls,
        },
        table=rows,
        notes=(
            f"mean square error one step ahead, in units of the noise variance; {TESTED} systems a seed, "
            f"{describe_seed_count(setting.seeds)}; families trained with {updates} updates each on the same "
            "trajectories",
            f"best after a change: {best_after}; best in a constant system: {best_still}",
            "oracle: least squares with known times of change. Controls: part of the gap from the initial state to "
            "the own trajectory that a false one closes, the largest of all families",
        ),
    )


LEAST_SQUARES: dict[str, dict[str, Any]] = {
    "rls": {},
    "rls, forgets 2 %": {"forgetting": 0.98},
    "oracle": {"told_changes": True},
}
CONTROLS = ("control_shuffled", "control_other_world")


def _measure_least_squares(seeds: Sequence[int], name: str, **how: Any) -> dict[str, Any]:
    return _make_row(
        name,
        [
            tuple(compute_least_squares_errors(lives, **how) for lives in _make_test_trajectories(seed))
            for seed in seeds
        ],
    )


def _select_largest(by_family: dict[str, Comparison]) -> Comparison:
    """Return the largest of all families; none if one of them learned nothing from its own trajectory."""
    for family, each in by_family.items():
        if each.value is None:
            return Comparison(None, f"{family}: {each.reason}")
    return max(by_family.values(), key=lambda each: each.value or 0.0)


def _measure_linear_family(
    seeds: Sequence[int], family: str, updates: int, work: Path, *, progress: Progress
) -> dict[str, Any]:
    """Train one family, or take the training that is there, and test it."""
    import torch

    torch.set_num_threads(1)
    task = ToyTask("linear", STATES, INPUTS, NUMBERS, LIVES, _make_training_trajectories)
    starts = [updates + TEST_AS_UPDATES * number for number in range(2 * len(seeds) + 1)]
    model = task.train(family, updates, work, make_part_progress(progress, 0, updates, starts[-1]))
    shares = (make_part_progress(progress, start, TEST_AS_UPDATES, starts[-1]) for start in starts)
    row = _make_row(
        family,
        [
            tuple(compute_model_errors(model, lives, next(shares)) for lives in _make_test_trajectories(seed))
            for seed in seeds
        ],
    )
    return row | _measure_controls(Variant(name=family, model=model), _make_test_trajectories(seeds[0])[0])


def _make_training_trajectories(count: int, seed: int) -> TrajectoryBatch:
    return generate_linear_trajectories(count, LIFE, seed=seed)


def _make_test_trajectories(seed: int) -> tuple[TrajectoryBatch, TrajectoryBatch]:
    """Generate test trajectories in one system, and with changes."""
    seed = TEST_SEED + 2 * seed
    still = generate_linear_trajectories(
        TESTED, STILL["2016-2048"][1], seed=seed, regime_steps=STILL["2016-2048"][1]
    )
    return still, generate_linear_trajectories(TESTED, REGIME * REGIMES, seed=seed + 1, regime_steps=REGIME)


def _make_row(name: str, by_seed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, Any]:
    still, changing = (np.concatenate(errors) for errors in zip(*by_seed, strict=True))
    parts = changing.reshape(len(changing), REGIMES, REGIME)
    row: dict[str, Any] = {"arm": name}
    row |= {at: round(float(still[:, slice(*span)].mean()), 3) for at, span in STILL.items()}
    for at, span in AFTER.items():
        row[f"change {at}"] = round(float(parts[:, EARLY, slice(*span)].mean()), 3)
    row["late change 32-64"] = round(float(parts[:, LATE, slice(*AFTER["32-64"])].mean()), 3)
    return row


def _measure_controls(arm: Variant, lives: TrajectoryBatch) -> dict[str, Comparison]:
    """Compute the part of the gap from the initial state to the own trajectory that a false trajectory closes."""
    unit = np.full(STATES, NOISE, np.float32)
    own = compute_error_by_step(arm, lives, (0, LIVED), change_std=unit, horizon=1)
    return {
        f"control_{history}": compute_gap_closed(
            float(
                compute_error_after_false_history(
                    arm, lives, num_steps=LIVED, change_std=unit, history=history, seed=TEST_SEED, horizon=1
                ).mean()
            ),
            float(own[:, 0].mean()),
            float(own[:, 1].mean()),
            names=("birth", "the own life"),
        )
        for history in ("shuffled", "other_world")
    }
