"""Thesis errors: prediction errors of all variants by steps of experience, in worlds that stay or return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wm_robot.progress import Progress, ignore_progress
from wm_robot_benchmarks.harness.result import Setting
from wm_robot_benchmarks.measures.online_tuning import OnlineConfig
from wm_robot_benchmarks.measures.thesis_variants import (
    TrainingRun,
    learns_online,
    load_models,
)
from wm_robot_benchmarks.undeclared import DECLARED, FLOOR, make_lives

if TYPE_CHECKING:
    from wm_robot.evaluation.adaptation import LearningModel
    from wm_robot.types import TrajectoryBatch

POINTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 200)
"""Steps of experience in a world that stays."""
STAY = 128
"""Steps in each of the worlds A, B and A again; a multiple of the steps between changes."""
RETURN_POINTS = (0, 1, 2, 4, 8, 16, 32, 64, 100)
"""Steps since a world began."""
FIRST, AGAIN = "first", "again"
"""The two times in world A."""
RETURNED = {DECLARED: "returned, declared", "undeclared": "returned, undeclared"}
HISTORIES = ("none", "shuffled", "other_world")
"""False histories of the controls: the state is reset after each step, outcomes are those of other steps, and the
history is another robot's."""
CONTROL_STEPS = 128
CONTROL = "control"


@dataclass(frozen=True)
class ErrorJob:
    """Measurement of one row of the table with one training run."""

    setting: Setting
    run: TrainingRun
    online_file: Path
    row: str
    strengths: Mapping[str, float]
    """Strength of each undeclared kind that is measured."""
    lives: int
    seed: int
    has_controls: bool


Errors = dict[tuple[str, str], Float[np.ndarray, "B P"]]
"""Errors by variant, or `FLOOR`, and part: of worlds that return `FIRST` and `AGAIN`, a control, else empty."""


def measure_errors(job: ErrorJob, *, progress: Progress = ignore_progress) -> Errors:
    """Measure the errors of all variants of a training run in one row."""
    models = load_models(job.run, OnlineConfig.load(job.online_file))
    if job.row in RETURNED.values():
        return _measure_returned(job, models, progress)
    seen = make_lives(
        job.setting, job.row, job.strengths.get(job.row, 0.0), job.lives, job.seed, points=POINTS
    )
    found: Errors = {(FLOOR, ""): seen.floor}
    for number, (name, model) in enumerate(models.items()):
        found[name, ""] = _measure_steps(name, model, seen.trajectories, POINTS, seen.unit)
        if job.has_controls and learns_online(name):
            for history in HISTORIES:
                error = _measure_false_history(name, model, seen.trajectories, seen.unit, history)
                found[name, f"{CONTROL} {history}"] = error[:, None]
        progress(number + 1, len(models))
    return found


def _measure_returned(job: ErrorJob, models: "Mapping[str, LearningModel]", progress: Progress) -> Errors:
    trajectories = simulate_returned_lives(job.setting, job.row, job.strengths, job.lives, job.seed)
    unit = np.diff(trajectories.obs, axis=1).std((0, 1))
    points = [*RETURN_POINTS, *(2 * STAY + point for point in RETURN_POINTS)]
    found: Errors = {}
    for number, (name, model) in enumerate(models.items()):
        error = _measure_steps(name, model, trajectories, points, unit)
        found[name, FIRST], found[name, AGAIN] = np.split(error, 2, axis=1)
        progress(number + 1, len(models))
    return found


def _measure_steps(
    name: str,
    model: "LearningModel",
    trajectories: "TrajectoryBatch",
    points: Sequence[int],
    unit: np.ndarray,
) -> np.ndarray:
    from wm_robot.evaluation.adaptation import Variant, compute_error_by_step

    return compute_error_by_step(Variant(name=name, model=model), trajectories, points, change_std=unit)


def _measure_false_history(
    name: str, model: "LearningModel", trajectories: "TrajectoryBatch", unit: np.ndarray, history: str
) -> np.ndarray:
    from wm_robot.evaluation.adaptation import Variant, compute_error_after_false_history

    return compute_error_after_false_history(
        Variant(name=name, model=model),
        trajectories,
        num_steps=CONTROL_STEPS,
        change_std=unit,
        history=history,
        seed=0,
    )


def simulate_returned_lives(
    setting: Setting, row: str, strengths: Mapping[str, float], lives: int, seed: int
) -> "TrajectoryBatch":
    """Simulate robots in random motion in world A, then in B, then in A again.

    Worlds are drawn from the declared ones, or are the nominal one with an undeclared effect: A and B of a robot have
    two kinds of it, and all kinds occur equally often.
    """
    from wm_robot.evaluation.adaptation import HORIZON, OFFSETS
    from wm_robot.robots import load_spec
    from wm_robot_sim.effects.effect import Effect
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(setting.robot)
    distribution = DomainRandomization(spec)
    rng = np.random.default_rng([seed, 60_000])
    if row == RETURNED[DECLARED]:
        worlds = [[distribution.sample(rng) for _ in range(2)] for _ in range(lives)]
    else:
        kinds, nominal = list(strengths), distribution.make_nominal_world()
        worlds = [
            [
                replace(
                    nominal,
                    effects=(Effect(kind=kind, seed=int(rng.integers(2**32)), strength=strengths[kind]),),
                )
                for kind in (kinds[number % len(kinds)], kinds[(number + 1) % len(kinds)])
            ]
            for number in range(lives)
        ]
    return collect_trajectories(
        spec,
        num_trajectories=lives,
        num_steps=2 * STAY + RETURN_POINTS[-1] + OFFSETS[-1] + HORIZON,
        seed=seed,
        held_out=True,
        worlds=worlds,
        world_schedule=[(0, 0), (STAY, 1), (2 * STAY, 0)],
    )
