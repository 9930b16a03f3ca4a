"""`wm-robot bench memory --task gain`: whether learning in one episode helps in the next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.progress import Progress, make_part_progress
from wm_robot.types import TrajectoryBatch
from wm_robot_benchmarks.harness.result import Result, Setting, describe_seed_count
from wm_robot_benchmarks.measures.gain_task import (
    EPISODES,
    TARGETS,
    compute_first_costs,
    generate_gain_trajectories,
)
from wm_robot_benchmarks.measures.toy_tasks import ToyTask
from wm_robot_cli.worker_processes import in_processes

LIVES, TESTED, TEST_SEED = 8192, 384, 1000
TEST_AS_UPDATES = 30
"""Number of updates that take about as long as one test under a seed."""
HISTORIES = {"lasting": "own", "control_shuffled": "shuffled", "control_other_life": "other"}
"""Controls with a constant gain. A third control has another gain in each episode."""


def compare_on_gain(
    setting: Setting, families: Sequence[str], updates: int, work: Path, progress: Progress
) -> Result:
    """Train families on a gain that lasts over episodes, and compare them.

    Args:
        updates: Updates of each training.
        work: Folder of the trainings; finished ones are reused.
    """
    updates = max(1, updates // 3) if setting.quick else updates
    rows = in_processes(
        _measure_gain_family, [(setting.seeds, family, updates, work) for family in families], progress
    )
    controls = [name for name in rows[0] if name.startswith("control")]
    return Result(
        setting=setting,
        figures={"gap_closed_worst_family": min(row["lasting"] for row in rows)}
        | {name: max(row[name] for row in rows) for name in controls},
        table=rows,
        notes=(
            f"share of the cost of doing nothing, the best without knowledge of the gain, that the first action of "
            f"episodes 2 to {EPISODES} avoids; "
            f"{TESTED} robots a seed, {describe_seed_count(setting.seeds)}; families trained with {updates} updates "
            "each",
            "controls, the largest of all families: outcomes shuffled, another robot's steps, another gain in each "
            "episode",
        ),
    )


def _measure_gain_family(
    seeds: Sequence[int], family: str, updates: int, work: Path, *, progress: Progress
) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    task = ToyTask("gain", 1, 1, 1, LIVES, lambda count, seed: generate_gain_trajectories(count, seed=seed))
    found: dict[str, list[float]] = {}
    done, whole = updates, updates + TEST_AS_UPDATES * (len(HISTORIES) + 2) * len(seeds)
    model = task.train(family, updates, work, make_part_progress(progress, 0, updates, whole))

    def compute_costs(lives: TrajectoryBatch, **how: Any) -> np.ndarray:
        nonlocal done
        costs, done = compute_first_costs(model, lives, **how), done + TEST_AS_UPDATES
        progress(done, whole)
        return costs

    for seed in seeds:
        lasting, fleeting = (
            generate_gain_trajectories(TESTED, seed=TEST_SEED + seed, constant_gain=how)
            for how in (True, False)
        )
        newborn = compute_costs(lasting, history="none")[:, 1:].mean()
        blind = float(np.square(TARGETS).mean())
        costs = {name: compute_costs(lasting, history=how, seed=seed) for name, how in HISTORIES.items()}
        costs["control_fleeting"] = compute_costs(fleeting)
        for name, cost in costs.items():
            found.setdefault(name, []).append(1 - cost[:, 1:].mean() / blind)
        found.setdefault("newborn cost", []).append(newborn)
    return {"arm": family} | {name: round(float(np.mean(values)), 4) for name, values in found.items()}
