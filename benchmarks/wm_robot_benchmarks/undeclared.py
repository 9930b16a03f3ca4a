"""`wm-robot bench undeclared`: open-loop error with effects that no list names, relative to frozen weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.gap import Comparison
from wm_robot.evaluation.intervals import bootstrap_ratio_interval
from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    check_bases,
    describe_seed_count,
    list_variants_with_base,
    load_bases,
    require,
)
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot_benchmarks.measures.effect_lives import EffectLives

POINTS = (0, 1, 2, 4, 8, 16, 32, 64, 100)
"""Steps of experience."""
FROZEN, FLOOR, OTHER_LIFE = "robust", "floor", "other life"
NOMINAL, DECLARED = "nominal", "declared"
"""Rows without an undeclared effect."""
LEARNABLE = 0.6
"""Largest floor, as a share of the frozen error, of a kind that each memory should learn."""


@dataclass(frozen=True, kw_only=True)
class UndeclaredBench(MemoryBench, SeededBench):
    """Open-loop error with undeclared effects of the kinds that training never uses, by steps of experience."""

    lives: Count = 64
    """Robots for each kind and seed."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of effects, motion and noise."""
    kinds: tuple[str, ...] = ()
    """Kinds of effects; by default all that are for tests only, and gusts, which are reported apart."""
    quick: bool = False
    """A quarter of the robots, one seed."""

    def run(self, progress: Progress) -> Result:
        from wm_robot.robots import load_spec
        from wm_robot_benchmarks.measures.effect_strength import get_strengths
        from wm_robot_sim.effects.effect import check_kinds, list_kinds

        setting = self.make_setting()
        spec = load_spec(self.robot)
        unpredictable = list_kinds(spec, "unpredictable")
        kinds = self.kinds or (*list_kinds(spec, "test"), *unpredictable)
        check_kinds(spec, kinds)
        require(self.lives >= 8, f"lives is {self.lives}; it must be at least 8")
        lives = max(16, self.lives // 4) if self.quick else self.lives
        check_bases(setting, (FROZEN, self.memory))
        names = sorted({FROZEN, self.memory, *list_variants_with_base(setting)} - {"oracle", "nominal"})
        bases = load_bases(setting, names)
        strengths = get_strengths(setting, kinds)
        rows = (NOMINAL, DECLARED, *kinds)
        jobs = [
            (setting, self.memory, names, row, strengths.get(row, 0.0), lives, seed)
            for row in rows
            for seed in setting.seeds
        ]
        found = dict(
            zip([job[3:7:3] for job in jobs], in_processes(_measure_row, jobs, progress), strict=True)
        )
        errors = {
            row: {
                name: np.concatenate([found[row, seed][name] for seed in setting.seeds])
                for name in found[row, setting.seeds[0]]
            }
            for row in rows
        }
        judged = {kind: errors[kind] for kind in kinds if kind not in unpredictable}
        return Result(
            setting=setting,
            figures=_compute_figures(judged or {kind: errors[kind] for kind in kinds}, errors, self.memory),
            table=[_make_line(row, name, error) for row in rows for name, error in errors[row].items()],
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"{lives} robots a kind and seed, {describe_seed_count(setting.seeds)}; error: mean square 8 steps "
                "ahead, in units of the one-step change; floor: the simulator with the true effect, started from the "
                "noisy observation",
                "strengths: " + ", ".join(f"{kind} {strengths[kind]:.3g}" for kind in kinds),
                *([f"reported apart: {', '.join(unpredictable)}"] if set(unpredictable) & set(kinds) else []),
            ),
        )


def _measure_row(
    setting: Setting,
    memory: str,
    names: Sequence[str],
    row: str,
    strength: float,
    lives: int,
    seed: int,
    *,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Compute the errors `B P` of each variant, of the floor, and of the memory that lived another robot's life."""
    from wm_robot.evaluation.adaptation import Variant, compute_error_by_step

    seen = make_lives(setting, row, strength, lives, seed)
    found = {}
    for number, (name, base) in enumerate(load_bases(setting, names).items()):
        variant = Variant(name=name, model=base.model)
        found[name] = compute_error_by_step(variant, seen.trajectories, POINTS, change_std=seen.unit)
        progress(number + 1, len(names) + 1)
    found[OTHER_LIFE] = _measure_other_life(setting, memory, seen)
    return {**found, FLOOR: seen.floor}


def make_lives(
    setting: Setting, row: str, strength: float, lives: int, seed: int, *, points: Sequence[int] = POINTS
) -> "EffectLives":
    """Simulate the robots of a row of the table: the nominal one, declared worlds, or an effect of a kind."""
    from wm_robot.robots import load_spec
    from wm_robot_benchmarks.measures.effect_lives import simulate_lives
    from wm_robot_sim.effects.effect import Effect
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(setting.robot)
    distribution = DomainRandomization(spec)
    nominal = distribution.make_nominal_world()
    rng = np.random.default_rng([seed, 30_000])
    if row == NOMINAL:
        worlds = [nominal] * lives
    elif row == DECLARED:
        worlds = [distribution.sample(rng) for _ in range(lives)]
    else:
        numbers = rng.integers(2**32, size=lives).tolist()
        worlds = [
            replace(nominal, effects=(Effect(kind=row, seed=number, strength=strength),))
            for number in numbers
        ]
    return simulate_lives(spec, worlds, seed=int(rng.integers(2**62)), points=points)


def _measure_other_life(setting: Setting, memory: str, seen: "EffectLives") -> np.ndarray:
    """Compute the errors of a memory that lived the life of the next robot: it may not help."""
    from wm_robot.evaluation.adaptation import Variant, compute_error_after_false_history

    model = load_bases(setting, [memory])[memory].model
    last = compute_error_after_false_history(
        Variant(name=memory, model=model),
        seen.trajectories,
        num_steps=POINTS[-1],
        change_std=seen.unit,
        history="other_world",
        seed=0,
    )
    return np.column_stack([np.full((len(last), len(POINTS) - 1), np.nan), last])


def _compute_figures(
    judged: Mapping[str, Mapping[str, np.ndarray]],
    errors: Mapping[str, Mapping[str, np.ndarray]],
    memory: str,
) -> dict[str, float | Comparison]:
    at = POINTS.index(100)
    ratios = {kind: _divide(error[memory][:, at], error[FROZEN][:, at]) for kind, error in judged.items()}
    floors = {kind: _divide(error[FLOOR][:, at], error[FROZEN][:, at]) for kind, error in judged.items()}
    learnable = [ratios[kind] for kind, floor in floors.items() if floor <= LEARNABLE]
    ways = [(1 - ratios[kind]) / (1 - floors[kind]) for kind in judged if floors[kind] < 1]
    other = [_divide(error[OTHER_LIFE][:, at], error[FROZEN][:, at]) for error in judged.values()]
    none = Comparison(None, f"no kind has a floor of at most {LEARNABLE} of the frozen error")
    return {
        "vs_robust_100": _compute_geometric_mean(list(ratios.values())),
        "worst_kind_100": max(learnable) if learnable else none,
        "worst_ever": max(_compute_worst_bound(error, memory) for error in judged.values()),
        "worst_ever_nominal": _compute_worst_bound(errors[NOMINAL], memory),
        "worst_ever_declared": _compute_worst_bound(errors[DECLARED], memory),
        "gap_closed_100": float(np.mean(ways)) if ways else none,
        "control_other_life_100": _compute_geometric_mean(other),
    }


def _compute_worst_bound(error: Mapping[str, np.ndarray], memory: str) -> float:
    """Compute the largest lower 95 % bound of the ratio to the frozen error, over all steps."""
    return max(
        bootstrap_ratio_interval(own, frozen)[0]
        for own, frozen in zip(error[memory].T, error[FROZEN].T, strict=True)
    )


def _divide(above: np.ndarray, below: np.ndarray) -> float:
    return float(above.mean() / below.mean())


def _compute_geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _make_line(row: str, name: str, error: np.ndarray) -> dict[str, Any]:
    means = {str(p): round(float(v), 4) for p, v in zip(POINTS, error.mean(0), strict=True) if np.isfinite(v)}
    return {"effect": row, "variant": name, **{str(p): means.get(str(p), "") for p in POINTS}}
