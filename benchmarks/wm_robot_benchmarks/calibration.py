"""`wm-robot bench calibration`: how often errors are within the predicted deviation, in held-out worlds."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.progress import Progress, make_part_progress
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    describe_seed_count,
    find_base_folder,
    load_bases,
    require,
)
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

SHOWN = (1, 8, 32, 100)
"""Steps ahead with a figure."""


@dataclass(frozen=True, kw_only=True)
class CalibrationBench(MemoryBench, SeededBench):
    """How often prediction errors are within the predicted deviation, in held-out worlds."""

    worlds: Count | None = None
    """Held-out worlds for each seed, by default 200; with undeclared effects robots of each kind, by default 64."""
    memory: str = DEFAULT_MEMORY
    """Memory family; its base needs a calibration, see `wm-robot calibrate`."""
    undeclared: bool = False
    """Measure robots with undeclared effects in place of declared worlds."""
    kinds: tuple[str, ...] = ()
    """Kinds of undeclared effects; by default all that are for tests only."""
    seeds: tuple[Seed, ...] = ()
    """Seeds of worlds, motion and noise; by default 0 1, and 0 1 2 with undeclared effects."""
    quick: bool = False
    """A quarter of the worlds, one seed."""

    def select_seeds(self) -> tuple[Seed, ...]:
        return self.seeds or ((0, 1, 2) if self.undeclared else (0, 1))

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        worlds = self.worlds or (64 if self.undeclared else 200)
        require(worlds >= 2, f"worlds is {worlds}; it must be at least 2")
        worlds = max(2, worlds // 4) if self.quick else worlds
        if self.undeclared:
            from wm_robot_benchmarks.measures.undeclared_calibration import measure_undeclared_calibration

            return measure_undeclared_calibration(setting, self.memory, self.kinds, worlds, progress)
        require(not self.kinds, "kinds needs undeclared effects. Add --undeclared")
        return self._measure_declared(setting, worlds, progress)

    def _measure_declared(self, setting: Setting, worlds: int, progress: Progress) -> Result:
        from wm_robot.evaluation.calibration import HORIZONS, compute_coverage
        from wm_robot.model.calibration import load_calibration

        base = load_bases(setting, [self.memory])[self.memory]
        load_calibration(find_base_folder(setting, self.memory), base)
        found = in_processes(
            _measure_errors, [(setting, self.memory, worlds, seed) for seed in setting.seeds], progress
        )
        own, right, other, deviation, error = (np.concatenate(part) for part in zip(*found, strict=True))
        at = {h: HORIZONS.index(h) for h in SHOWN}
        figures = {f"coverage_{h}": compute_coverage(right[:, :, k]) for h, k in at.items()}
        figures |= {f"coverage_{h}_uncalibrated": compute_coverage(own[:, :, k]) for h, k in at.items()}
        figures["rank_correlation"] = compute_rank_correlation(deviation, error)
        figures["control_other_life"] = compute_rank_correlation(np.roll(deviation, 1, 0), error)
        return Result(
            setting=setting,
            figures=figures,
            table=[
                *_make_rows("calibrated", right),
                *_make_rows("model alone", own),
                *_make_rows("another life's", other),
            ],
            bases={self.memory: base.digest},
            notes=(
                f"{worlds} held-out worlds a seed, {describe_seed_count(setting.seeds)}; share of the errors within "
                "one predicted deviation, by steps ahead (columns) and steps of experience; 0.683 is perfect",
                "rank correlation of errors with their own predicted deviations, and with those of another robot",
            ),
        )


def _measure_errors(
    setting: Setting, memory: str, worlds: int, seed: int, *, progress: Progress
) -> tuple[np.ndarray, ...]:
    """Compute ratios and errors for one seed, `B A K O` each.

    These are errors over the model's own deviation, over the calibrated one and over that of another robot; the
    calibrated deviation, and the errors in sensor units.
    """
    from wm_robot.evaluation.calibration import HORIZONS, UPDATE_COUNTS, compute_standardised_errors
    from wm_robot.model.calibration import load_calibration
    from wm_robot.robots import load_spec
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    base = load_bases(setting, [memory])[memory]
    calibration = load_calibration(find_base_folder(setting, memory), base)
    spec = load_spec(setting.robot)
    rng, draw = np.random.default_rng([seed, 40_000]), DomainRandomization(spec).sample
    lives = collect_trajectories(
        spec,
        num_trajectories=worlds,
        num_steps=max(UPDATE_COUNTS) + max(HORIZONS),
        seed=seed * 10 + 4,
        held_out=True,
        worlds=[[draw(rng)] for _ in range(worlds)],
    )
    first, second = (make_part_progress(progress, start, 1, 2) for start in (0, 1))
    own, _ = compute_standardised_errors(base.model, lives, progress=first)
    right, deviation = compute_standardised_errors(
        base.model, lives, calibration=calibration, progress=second
    )
    error = np.abs(right) * deviation
    return own, right, error / np.roll(deviation, 1, 0), deviation, error


def _make_rows(name: str, errors: np.ndarray) -> list[dict[str, Any]]:
    from wm_robot.evaluation.calibration import HORIZONS, UPDATE_COUNTS, compute_coverage

    return [
        {"deviations": name, "steps lived": str(age)}
        | {str(h): round(compute_coverage(errors[:, a, k]), 3) for k, h in enumerate(HORIZONS)}
        for a, age in enumerate(UPDATE_COUNTS)
    ]


def compute_rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Compute Spearman's rank correlation, mean over steps ahead and channels: only robots and times differ."""
    x, y = (np.moveaxis(v.reshape(-1, *v.shape[2:]), 0, -1) for v in (x, y))
    ranks = [v.argsort(-1).argsort(-1).astype(np.float64) for v in (x, y)]
    centred = [r - r.mean(-1, keepdims=True) for r in ranks]
    scale = np.sqrt(np.prod([(c**2).sum(-1) for c in centred], 0))
    return float(((centred[0] * centred[1]).sum(-1) / scale).mean())
