"""Undeclared control: settled error of a task while an undeclared effect is on, and after it ended, by variant."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.gap import Comparison
from wm_robot.evaluation.intervals import bootstrap_ratio_interval
from wm_robot.progress import Progress
from wm_robot.robots import load_spec
from wm_robot.tasks import ErrorScale, TaskError
from wm_robot_benchmarks.control import SETTLED_S, TOGETHER
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    check_bases,
    describe_seed_count,
    list_variants_with_base,
    load_bases,
)
from wm_robot_benchmarks.measures.undeclared_episodes import (
    BEFORE_S,
    CONTROLS,
    EFFECT_S,
    FROZEN,
    NUM_TIMED_PLANS,
    ORACLE,
    OTHER_LIFE,
    RESET,
    RETURN_S,
    SIMULATORS,
    find_runtime,
    run_episodes,
    time_plans,
)
from wm_robot_cli.worker_processes import in_processes


class Phases(NamedTuple):
    """Settled errors of the episodes of each seed: the first second of a phase is left out."""

    before: Float[np.ndarray, "S B"]
    effect: Float[np.ndarray, "S B"]
    after: Float[np.ndarray, "S B"]
    """After the return to the nominal robot."""
    first: Float[np.ndarray, "S B"]
    """In the first second of the effect."""


Measured = Mapping[str, Mapping[str, Phases]]
"""Kind of effect → variant → errors."""


def measure_undeclared_control(
    setting: Setting,
    memory: str,
    task: str,
    kinds: Sequence[str],
    *,
    episodes: int,
    simulated: int,
    progress: Progress,
) -> Result:
    """Measure a task in closed loop on robots that are nominal, get an undeclared effect, and lose it again.

    Args:
        kinds: Kinds of effects; empty: all that are for tests only.
        episodes: Episodes of each kind and seed.
        simulated: Episodes of each kind and seed for the variants that plan in MuJoCo: the first ones.
    """
    from wm_robot_benchmarks.measures.effect_strength import get_strengths
    from wm_robot_sim.effects.effect import check_kinds, list_kinds

    spec = load_spec(setting.robot)
    kinds = tuple(kinds) or list_kinds(spec, "test")
    check_kinds(spec, kinds)
    check_bases(setting, (FROZEN, memory))
    oracle = [ORACLE] if ORACLE in list_variants_with_base(setting) else []
    names = list(dict.fromkeys([FROZEN, memory, *oracle]))
    bases = load_bases(setting, names)
    strengths = get_strengths(setting, kinds)
    variants = dict.fromkeys(names, episodes) | dict.fromkeys((RESET, OTHER_LIFE), min(episodes, CONTROLS))
    variants |= dict.fromkeys(SIMULATORS, simulated) if simulated else {}
    found = _measure_variants(setting, memory, task, variants, strengths, progress)
    times = _time_variants(setting, memory, task, bool(simulated), strengths)
    scale = TaskError(spec, spec.find_task(task)).scale
    return Result(
        setting=setting,
        figures=compute_figures(found, memory, times),
        table=[
            *(_make_row(kind, name, found[kind], scale) for kind in kinds for name in found[kind]),
            *({"plans of": name, "ms": round(each, 2)} for name, each in times.items()),
        ],
        bases={name: base.digest for name, base in bases.items()},
        notes=(
            f"{episodes} episodes a kind, variant and seed, {describe_seed_count(setting.seeds)}; {scale.label}; "
            f"nominal for {BEFORE_S:g} s, with the effect for {EFFECT_S:g} s, nominal again for {RETURN_S:g} s; the "
            f"first {SETTLED_S:g} s of each are left out",
            f"MuJoCo plans in {simulated} of these episodes a kind and seed, and is compared in them alone; its "
            "plans start from the noisy reading, with the commands under way, and its true physics has the effect "
            "and its hidden state",
            f"controls in the first {min(episodes, CONTROLS)} episodes a kind and seed: {RESET}, at each step, and "
            f"{OTHER_LIFE}, of another robot",
            "ratios: of mean errors to those of robust, mean over kinds; low and high: 95 % interval of one kind",
            f"time of a plan of one robot: median of {NUM_TIMED_PLANS} for each kind, on one core, "
            f"{memory} in {find_runtime(setting, memory, task)}; effects at each physics step are in Python",
            "strengths: " + ", ".join(f"{kind} {strength:.3g}" for kind, strength in strengths.items()),
        ),
    )


def _measure_variants(
    setting: Setting,
    memory: str,
    task: str,
    variants: Mapping[str, int],
    strengths: Mapping[str, float],
    progress: Progress,
) -> dict[str, dict[str, Phases]]:
    """Measure the errors by kind and variant.

    Args:
        variants: Number of episodes of each.
    """
    keys = [
        (kind, name, seed, first, size)
        for kind in strengths
        for name, count in variants.items()
        for seed in setting.seeds
        for first, size in _split_episodes(count)
    ]
    jobs = [(setting, memory, task, name, kind, strengths[kind], *rest) for kind, name, *rest in keys]
    parts = zip(keys, in_processes(run_episodes, jobs, progress), strict=True)
    errors = dict[tuple[str, str, int], list[np.ndarray]]()
    for (kind, name, seed, _, _), part in parts:
        errors.setdefault((kind, name, seed), []).append(part)
    rate = load_spec(setting.robot).rate
    return {
        kind: {
            name: split_phases(
                np.stack([np.concatenate(errors[kind, name, seed]) for seed in setting.seeds]), rate
            )
            for name in variants
        }
        for kind in strengths
    }


def _split_episodes(count: int) -> list[tuple[int, int]]:
    """Split episodes into parts of equal size, nearly: numbers of the first one, and sizes."""
    parts = np.array_split(np.arange(count), -(-count // TOGETHER))
    return [(int(part[0]), len(part)) for part in parts]


def _time_variants(
    setting: Setting, memory: str, task: str, has_simulators: bool, strengths: Mapping[str, float]
) -> dict[str, float]:
    """Time the plans of the memory and of MuJoCo, in ms; one after another, so that none slows another down."""
    times = {}
    for name in (memory, *(SIMULATORS if has_simulators else ())):
        of_kinds = [time_plans(setting, task, name, *effect) for effect in strengths.items()]
        times[name] = float(np.median(np.concatenate(of_kinds)))
    return times


def split_phases(error: Float[np.ndarray, "S B T"], rate: float) -> Phases:
    """Split errors by phase into settled errors."""
    begin, end = round(BEFORE_S * rate), round((BEFORE_S + EFFECT_S) * rate)
    skipped, second = round(SETTLED_S * rate), round(rate)
    return Phases(
        before=error[..., skipped:begin].mean(-1),
        effect=error[..., begin + skipped : end].mean(-1),
        after=error[..., end + skipped :].mean(-1),
        first=error[..., begin : begin + second].mean(-1),
    )


def compute_figures(
    found: Measured, memory: str, times: Mapping[str, float]
) -> dict[str, float | Comparison]:
    """Compute the figures from the errors by kind and variant.

    Args:
        times: Time of a plan by variant, in ms.
    """
    figures: dict[str, float | Comparison] = {
        "error_vs_robust": _average_ratio(found, memory, FROZEN, "effect"),
        "worst_kind": _compute_worst_bound(found, memory, "effect"),
        "error_vs_robust_after_return": _average_ratio(found, memory, FROZEN, "after"),
        "worst_kind_after_return": _compute_worst_bound(found, memory, "after"),
        "error_vs_robust_before": _average_ratio(found, memory, FROZEN, "before"),
        "oracle_vs_robust": _average_ratio(found, ORACLE, FROZEN, "effect"),
        "control_other_life": _average_ratio(found, OTHER_LIFE, FROZEN, "effect"),
        "control_reset_memory": _average_ratio(found, RESET, FROZEN, "effect"),
        "plan_ms": times[memory],
    }
    none = Comparison(None, "no episode in which MuJoCo plans")
    for name in SIMULATORS:
        key = name.lower().replace(", ", "_")
        figures |= {
            f"{key}_vs_robust": _average_ratio(found, name, FROZEN, "effect"),
            f"error_vs_{key}": _average_ratio(found, memory, name, "effect"),
            f"plan_ms_{key}": times.get(name, none),
            f"plan_time_ratio_{key}": times[name] / times[memory] if name in times else none,
        }
    return figures


def _average_ratio(found: Measured, name: str, reference: str, phase: str) -> float | Comparison:
    """Compute the ratio of the mean errors of two variants, mean over kinds."""
    for each in (name, reference):
        if any(each not in of for of in found.values()):
            return Comparison(None, f"'{each}' was not measured")
    ratios = []
    for of in found.values():
        own, other = _pair_errors(of, name, reference, phase)
        ratios.append(own.mean() / other.mean())
    return float(np.mean(ratios))


def _compute_worst_bound(found: Measured, memory: str, phase: str) -> float:
    """Compute the largest lower 95 % bound of the ratio to `robust` over kinds."""
    return max(bootstrap_ratio_interval(*_pair_errors(of, memory, FROZEN, phase))[0] for of in found.values())


def _pair_errors(
    of: Mapping[str, Phases], name: str, reference: str, phase: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors of two variants in the episodes that both have."""
    own, other = (getattr(of[each], phase) for each in (name, reference))
    count = min(own.shape[1], other.shape[1])
    return own[:, :count].ravel(), other[:, :count].ravel()


def _make_row(kind: str, name: str, of: Mapping[str, Phases], scale: ErrorScale) -> dict[str, Any]:
    """Make a row of the table, in the unit of the scale."""
    own = of[name]
    pair = _pair_errors(of, name, FROZEN, "effect")
    low, high = bootstrap_ratio_interval(*pair)
    values = {
        "before": own.before.mean(),
        "second 0-1": own.first.mean(),
        "settled mean": own.effect.mean(),
        "settled median": np.median(own.effect),
        "after return": own.after.mean(),
    }
    return {
        "effect": kind,
        "variant": name,
        "episodes": own.effect.size,
        **{key: float(scale.format_number(float(value), more_decimals=1)) for key, value in values.items()},
        "vs robust": round(float(pair[0].mean() / pair[1].mean()), 3),
        "low": round(low, 3),
        "high": round(high, 3),
    }
