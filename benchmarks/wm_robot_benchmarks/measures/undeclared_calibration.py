"""Undeclared calibration: how often errors are within the predicted deviation on robots with undeclared effects."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.calibration import UPDATE_COUNTS, compute_coverage, compute_standardised_errors
from wm_robot.progress import Progress, ignore_progress
from wm_robot_benchmarks.calibration import compute_rank_correlation
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    describe_seed_count,
    find_base_folder,
    load_bases,
)
from wm_robot_benchmarks.undeclared import make_lives
from wm_robot_cli.worker_processes import in_processes

AHEAD = (1, 8, 32)
"""Steps ahead with a figure."""
HALF = 0.5
"""Factor on the deviations of the negative control."""


class DeviationErrors(NamedTuple):
    """Errors of predictions, by robot, age of the lifetime state, steps ahead and channel."""

    standardised: Float[np.ndarray, "B A K O"]
    """In predicted deviations."""
    deviation: Float[np.ndarray, "B A K O"]
    """Predicted deviations, in sensor units."""


def measure_undeclared_calibration(
    setting: Setting, memory: str, kinds: Sequence[str], robots: int, progress: Progress
) -> Result:
    """Measure the coverage of the calibrated deviations on robots with one undeclared effect each.

    Args:
        kinds: Kinds of effects; empty: all that are for tests only.
        robots: Robots of each kind and seed.
    """
    from wm_robot.model.calibration import load_calibration
    from wm_robot.robots import load_spec
    from wm_robot_benchmarks.measures.effect_strength import get_strengths
    from wm_robot_sim.effects.effect import check_kinds, list_kinds

    spec = load_spec(setting.robot)
    kinds = tuple(kinds) or list_kinds(spec, "test")
    check_kinds(spec, kinds)
    base = load_bases(setting, [memory])[memory]
    load_calibration(find_base_folder(setting, memory), base)
    strengths = get_strengths(setting, kinds)
    keys = [(kind, seed) for kind in kinds for seed in setting.seeds]
    jobs = [(setting, memory, kind, strengths[kind], robots, seed) for kind, seed in keys]
    parts = dict(zip(keys, in_processes(measure_kind, jobs, progress), strict=True))
    found = {kind: _concatenate([parts[kind, seed] for seed in setting.seeds]) for kind in kinds}
    return Result(
        setting=setting,
        figures=compute_figures(found),
        table=[row for kind in kinds for row in _make_rows(kind, found[kind].standardised)],
        bases={memory: base.digest},
        notes=(
            f"{robots} robots a kind and seed, {describe_seed_count(setting.seeds)}, each with its effect from the "
            "first step; share of the errors within one predicted deviation, by steps ahead (columns) and steps of "
            "experience; 0.683 is perfect",
            "pooled over kinds, channels and steps of experience; controls: half of each deviation, and rank "
            "correlation of errors with the deviations of another robot",
            "strengths: " + ", ".join(f"{kind} {strength:.3g}" for kind, strength in strengths.items()),
        ),
    )


def measure_kind(
    setting: Setting,
    memory: str,
    kind: str,
    strength: float,
    robots: int,
    seed: int,
    *,
    progress: Progress = ignore_progress,
) -> DeviationErrors:
    """Measure the errors of robots with an effect of a kind."""
    from wm_robot.model.calibration import load_calibration

    base = load_bases(setting, [memory])[memory]
    calibration = load_calibration(find_base_folder(setting, memory), base)
    lives = make_lives(setting, kind, strength, robots, seed, points=(max(UPDATE_COUNTS) + max(AHEAD),))
    errors, deviation = compute_standardised_errors(
        base.model,
        lives.trajectories,
        update_counts=UPDATE_COUNTS,
        horizons=AHEAD,
        calibration=calibration,
        progress=progress,
    )
    return DeviationErrors(errors, deviation)


def compute_figures(found: Mapping[str, DeviationErrors]) -> dict[str, float]:
    """Compute the figures from the errors of each kind."""
    every = _concatenate(list(found.values()))
    figures: dict[str, float] = {}
    for k, ahead in enumerate(AHEAD):
        of_kinds = [compute_coverage(each.standardised[:, :, k]) for each in found.values()]
        pooled = every.standardised[:, :, k]
        figures |= {
            f"coverage_{ahead}": compute_coverage(pooled),
            f"least_kind_{ahead}": min(of_kinds),
            f"largest_kind_{ahead}": max(of_kinds),
            f"control_half_deviation_{ahead}": compute_coverage(pooled / HALF),
        }
    error = np.abs(every.standardised) * every.deviation
    figures["rank_correlation"] = compute_rank_correlation(every.deviation, error)
    figures["control_other_life"] = compute_rank_correlation(np.roll(every.deviation, 1, 0), error)
    return figures


def _concatenate(parts: Sequence[DeviationErrors]) -> DeviationErrors:
    return DeviationErrors(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _make_rows(kind: str, errors: Float[np.ndarray, "B A K O"]) -> list[dict[str, Any]]:
    ages = [*((str(age), errors[:, [a]]) for a, age in enumerate(UPDATE_COUNTS)), ("all", errors)]
    return [
        {"effect": kind, "steps lived": age}
        | {str(ahead): round(compute_coverage(own[:, :, k]), 3) for k, ahead in enumerate(AHEAD)}
        for age, own in ages
    ]
