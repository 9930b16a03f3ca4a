"""`wm-robot bench adaptation`: open-loop error by steps of experience, in held-out worlds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.gap import Comparison, average_over_seeds, compute_gap_closed
from wm_robot.progress import Progress, make_part_progress
from wm_robot.types import TrajectoryBatch
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    check_bases,
    describe_seed_count,
    describe_spread,
    list_variants_with_base,
    load_bases,
    require,
)
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot_sim.worlds import World

POINTS = (0, 1, 4, 8, 16, 32, 50, 64, 80, 112, 240)
"""Steps of experience in a constant world."""
COUNTED_AT, COUNTED_RATIO = 64, 2.0
"""Steps of experience after which the gap is taken of those worlds alone that matter: error of `robust` over that of
`oracle`, from which on a world counts."""
CHANGE = 128
"""Step of the change in a trajectory with one."""
AFTER = (0, 8, 16, 32, 50, 100)
"""Steps after the change."""
SEGMENT = 64
"""Steps of a training segment, `TrainConfig.segment_steps`."""
LONG = tuple(SEGMENT * first for first in (1, 5, 13, 21, 31))
"""Start steps of the stages of a long trajectory, up to 32 training segments and more."""
STAGE = tuple(64 * part + step for part in range(4) for step in (16, 24, 32, 40, 48))
"""Steps of a stage at which to imagine. Random behaviour changes every 64 steps with a jerk that no variant predicts
well; these steps lie between two changes, in four behaviours, so that only the age differs."""
LONG_LIVES = 128


@dataclass(frozen=True)
class _VariantErrors:
    """Errors of one variant for one seed, `B P` each."""

    still: np.ndarray
    changed: np.ndarray
    long: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AdaptationBench(MemoryBench, SeededBench):
    """Open-loop error by steps of experience in held-out worlds, and the effect of false histories."""

    worlds: Count = 200
    """Held-out worlds for each seed."""
    long_lives: Count = LONG_LIVES
    """Long trajectories for each seed; with many observations they take most of the time."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of worlds, motion and noise."""
    quick: bool = False
    """A quarter of the worlds, one seed."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.worlds >= 2, f"worlds is {self.worlds}; it must be at least 2")
        seeds = setting.seeds
        worlds = min(self.worlds, max(50, self.worlds // 4)) if self.quick else self.worlds
        long_lives = max(1, self.long_lives // 4) if self.quick else self.long_lives
        # The table has all available bases; the figures need only these three.
        needed = ("robust", "oracle", self.memory)
        check_bases(setting, needed)
        bases = load_bases(setting, sorted({*needed, *list_variants_with_base(setting)}))
        found = in_processes(
            _measure_seed,
            [(setting, self.memory, list(bases), (worlds, long_lives), each) for each in seeds],
            progress,
        )
        errors = {name: [seen[name] for seen, _ in found] for name in bases}
        by_seed = {
            seed: _compute_figures(seen, self.memory, false)
            for seed, (seen, false) in zip(seeds, found, strict=True)
        }
        each = {name: {seed: of[name] for seed, of in by_seed.items()} for name in by_seed[seeds[0]]}
        return Result(
            setting=setting,
            figures={name: average_over_seeds(of) for name, of in each.items()},
            table=_make_table(errors),
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"{worlds} held-out worlds a seed, {describe_seed_count(seeds)}; error: mean square 8 steps ahead, "
                "in units of the one-step change; of long trajectories: mean of the 256 steps after a step",
                f"a world counts where the error of robust is at least {COUNTED_RATIO:g} times that of oracle",
                describe_spread({name: [one.value for one in of.values()] for name, of in each.items()}),
            ),
        )


def _measure_seed(
    setting: Setting,
    memory: str,
    names: Sequence[str],
    counts: tuple[int, int],
    seed: int,
    *,
    progress: Progress,
) -> tuple[dict[str, _VariantErrors], dict[str, np.ndarray]]:
    """Compute for one seed the errors of each variant, and of the adaptive one after false histories.

    Args:
        counts: Worlds, and long trajectories.
    """
    from wm_robot.evaluation.adaptation import (
        Variant,
        compute_error_after_false_history,
        compute_error_by_step,
    )

    arms = {name: Variant(name=name, model=base.model) for name, base in load_bases(setting, names).items()}
    still, changed, long = _generate_trajectories(setting.robot, *counts, seed)
    unit = np.diff(still.obs, axis=1).std((0, 1))
    errors = {}
    for number, (name, arm) in enumerate(arms.items()):
        # Shares of the total time.
        first, second, third = (
            make_part_progress(make_part_progress(progress, number, 1, len(arms)), start, size, 4)
            for start, size in ((0, 1), (1, 1), (2, 2))
        )
        errors[name] = _VariantErrors(
            compute_error_by_step(arm, still, POINTS, change_std=unit, progress=first),
            compute_error_by_step(
                arm, changed, [CHANGE + a for a in AFTER], change_std=unit, progress=second
            ),
            compute_error_by_step(arm, long, LONG, change_std=unit, offsets=STAGE, progress=third),
        )
    false = {
        history: compute_error_after_false_history(
            arms[memory], still, num_steps=50, change_std=unit, history=history, seed=seed
        )
        for history in ("shuffled", "other_world")
    }
    return errors, false


def _generate_trajectories(
    robot: str, worlds: int, long_lives: int, seed: int
) -> tuple[TrajectoryBatch, TrajectoryBatch, TrajectoryBatch]:
    """Generate trajectories in one world, with one change, and long ones."""
    from wm_robot.robots import load_spec
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(robot)
    draw = DomainRandomization(spec).sample
    rng = np.random.default_rng([seed, 20_000])
    own = [[draw(rng)] for _ in range(worlds)]
    pairs = [[world[0], draw(rng)] for world in own]

    def generate(
        own_worlds: "list[list[World]]",
        steps: int,
        number: int,
        visits: Sequence[tuple[int, int]] | None = None,
    ) -> TrajectoryBatch:
        return collect_trajectories(
            spec,
            num_trajectories=len(own_worlds),
            num_steps=steps,
            seed=seed * 10 + number,
            held_out=True,
            worlds=own_worlds,
            world_schedule=visits,
        )

    still = generate(own, POINTS[-1] + 16, 1)
    changed = generate(pairs, CHANGE + AFTER[-1] + 16, 2, [(0, 0), (CHANGE, 1)])
    long = generate(own[:long_lives], LONG[-1] + STAGE[-1] + 16, 3)
    return still, changed, long


def _compute_figures(
    errors: dict[str, _VariantErrors], memory: str, false: dict[str, np.ndarray]
) -> dict[str, Comparison]:
    robust, oracle, own = errors["robust"], errors["oracle"], errors[memory]
    at, after = POINTS.index(50), AFTER.index(50)
    long = own.long.mean(0)
    start, end = (float(arm.still[:, at].mean()) for arm in (robust, oracle))
    changed = (float(arm.changed[:, after].mean()) for arm in (own, robust, oracle))
    return {
        "gap_closed_50": compute_gap_closed(float(own.still[:, at].mean()), start, end),
        f"gap_closed_{COUNTED_AT}_counted": _compute_counted_gap(own.still, robust.still, oracle.still),
        "counted_share": Comparison(float(_find_counted_worlds(robust.still, oracle.still).mean())),
        "gap_closed_after_change": compute_gap_closed(*changed),
        "long_life_ratio": Comparison(float(long[-1] / long.min())),
        "control_shuffled": compute_gap_closed(float(false["shuffled"].mean()), start, end),
        "control_other_world": compute_gap_closed(float(false["other_world"].mean()), start, end),
    }


def _find_counted_worlds(robust: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Find the worlds in which the physics matters, bool `B`, from errors `B P`.

    The point at which the gap is taken does not decide: a large error of `robust` by chance would count as a gap.
    """
    others = [number for number, point in enumerate(POINTS) if point != COUNTED_AT]
    counted: np.ndarray = robust[:, others].mean(1) >= COUNTED_RATIO * oracle[:, others].mean(1)
    return counted


def _compute_counted_gap(own: np.ndarray, robust: np.ndarray, oracle: np.ndarray) -> Comparison:
    """Compute the part of the gap that is closed at `COUNTED_AT`, in the worlds that count."""
    counted, at = _find_counted_worlds(robust, oracle), POINTS.index(COUNTED_AT)
    if not counted.any():
        return Comparison(None, f"no world with an error of robust {COUNTED_RATIO:g} times that of oracle")
    return compute_gap_closed(*(float(errors[counted, at].mean()) for errors in (own, robust, oracle)))


def _make_table(errors: dict[str, list[_VariantErrors]]) -> list[dict[str, Any]]:
    rows = []
    for name, seen in errors.items():
        for life, points in (("still", POINTS), ("changed", AFTER), ("long", LONG)):
            values = np.concatenate([getattr(s, life) for s in seen])
            row: dict[str, Any] = {"arm": name, "life": life}
            row |= {str(p): round(float(v), 4) for p, v in zip(points, values.mean(0), strict=False)}
            rows.append(row)
    return rows
