"""`wm-robot bench consolidate`: robots that wear beyond the training range, and poisoned residuals."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.gap import reason_without_gap
from wm_robot.progress import Progress, part_of, unreported
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.processes import in_processes
from wm_robot_benchmarks.harness.result import Result, Setting, bases_of, count_of, needs
from wm_robot_cli.values import Count, Duration, Seed

if TYPE_CHECKING:
    from wm_robot.memory.lifetime_state import Residual
    from wm_robot.memory.state_arrays import ArrayState
    from wm_robot_benchmarks.measures.consolidation import Piece, Robots
    from wm_robot_sim.wear import Wear

WARM, END, BACK = 1024, 3072, 1536
"""Steps of the phases: new, worn out (where the end is evaluated), and new again."""
SETTLED = 128
"""Steps after which the state is settled in the first world again."""
GARBAGE, AFTER = 1024, 1536
"""Steps with readings of another robot, and steps after them or after a poisoned residual."""
POISONED = WARM + 3 * AFTER + GARBAGE + AFTER
"""Total steps with a poisoned residual."""
ARMS = ("frozen", "write", "consolidate", "oracle")


@dataclass(frozen=True, kw_only=True)
class ConsolidateBench(MemoryBench, SeededBench):
    """Robots whose motors wear beyond the training range: frozen, updated, consolidated; and poisoned residuals."""

    lives: Count = 8
    """Robots for each seed."""
    minutes: Duration = 20.0
    """Simulated time of the wear, in minutes."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of wear, motion and noise."""
    quick: bool = False
    """A quarter of the robots, a fifth of the time, one seed."""

    def run(self, setting: Setting, *, progress: Progress) -> Result:
        return run(setting, self.memory, self.lives, self.minutes, progress=progress)


def run(
    setting: Setting, memory: str, lives: int, minutes: float, *, progress: Progress = unreported
) -> Result:
    """See `wm-robot bench consolidate --help`."""
    needs(lives >= 2, f"lives is {lives}; it must be at least 2: garbage readings come from another robot")
    needs(minutes > 0, f"minutes is {minutes}; it must be positive")
    if setting.quick:
        lives, minutes = max(2, lives // 4), minutes / 5
    seeds, base = setting.seeds, bases_of(setting, [memory, "oracle"])[memory]
    wearing = _wearing_steps(minutes, 1 / base.model.config.dt)
    first, second = WARM + wearing + END + BACK, POISONED
    worn = in_processes(
        _worn,
        [(setting, memory, lives, minutes, seed) for seed in seeds],
        part_of(progress, 0, first, first + second),
    )
    poison = in_processes(
        _poisoned,
        [(setting, memory, lives, seed) for seed in seeds],
        part_of(progress, first, second, first + second),
    )
    error = {
        when: {arm: np.concatenate([part[when][arm] for part in worn]) for arm in ARMS}
        for when in ("new", "half worn", "worn", "new again")
    }
    end, back = error["worn"], error["new again"]
    return Result(
        setting=setting,
        figures={
            "vs_write": 1 - float(end["consolidate"].mean() / end["write"].mean()),
            "vs_frozen": 1 - float(end["consolidate"].mean() / end["frozen"].mean()),
            "vs_write_least": 1 - float((end["consolidate"] / end["write"]).max()),
            "old_conditions_ratio": float(back["consolidate"].mean() / back["write"].mean()),
            "poisoned_worse_s": max(part["worse_s"] for part in poison),
            "rolled_back": float(np.mean([part["rolled_back"] for part in poison])),
            "control_unguarded_worse_s": min(part["unguarded_s"] for part in poison),
        },
        table=[
            {"robot": when} | {arm: round(float(errors[arm].mean()), 4) for arm in ARMS}
            for when, errors in error.items()
        ]
        + [
            {"seed": seed, "poison": what, "worse than frozen, s": round(float(part[key]), 2)}
            for seed, part in zip(seeds, poison, strict=True)
            for what, key in (
                ("reversed labels, offered", "offered_s"),
                ("reversed labels, believed", "believed_s"),
                ("garbage, from its end on", "garbage_s"),
                ("control: believed, and never given up", "unguarded_s"),
            )
        ],
        bases={memory: base.digest},
        notes=(
            f"{lives} robots a seed, {count_of(seeds)}; gains leave the range of training over {minutes:g} min; "
            "error: mean square error of predictions 8 steps ahead, in units of the one-step change",
            f"in all: {sum(part['events'] for part in worn)} residuals evaluated, "
            f"{sum(part['given_up'] for part in worn)} rejected during the wear",
            "worse: longest time for which the error of the last half second is more than 1.1 times the frozen one",
            *_oracle_notes(error),
        ),
    )


def _oracle_notes(error: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """Describe where the oracle of the table is no bound: it was not trained for so much wear."""
    found = {
        when: reason_without_gap(
            float(arms["frozen"].mean()), float(arms["oracle"].mean()), names=("frozen", "oracle")
        )
        for when, arms in error.items()
    }
    return [f"{when}: {reason}" for when, reason in found.items() if reason]


def _wearing_steps(minutes: float, rate: float) -> int:
    return round(minutes * 60 * rate / 64 / 4) * 4 * 64


def _worn(
    setting: Setting, memory: str, lives: int, minutes: float, seed: int, *, progress: Progress
) -> dict[str, Any]:
    """Compute the mean errors of each robot by variant and time."""
    from wm_robot.adaptation.shadow import shadow_state

    wear, robots = _robots(setting, memory, lives, seed)
    wearing = _wearing_steps(minutes, wear.spec.rate)
    steps, whole = _Steps(), WARM + wearing + END + BACK

    def pieces(count: int, start: float, end: float) -> "Iterator[Piece]":
        return steps.counted(_pieces(wear, count, start, end), progress, whole)

    new = robots.follow(pieces(WARM, 0, 0))
    robots.freeze()
    robots.follow(pieces(wearing // 4, 0, 0.25))
    half = robots.follow(pieces(wearing // 2, 0.25, 0.75))
    robots.follow(pieces(wearing // 4, 0.75, 1))
    worn = robots.follow(pieces(END, 1, 1))
    back = robots.follow(pieces(BACK, 0, 0))
    return {
        "new": {arm: new.error(arm, WARM // 2) for arm in ARMS},
        "half worn": {arm: half.error(arm) for arm in ARMS},
        "worn": {arm: worn.error(arm) for arm in ARMS},
        "new again": {arm: back.error(arm, SETTLED) for arm in ARMS},
        "events": int(shadow_state(robots.state).offered.sum()),
        "given_up": int(shadow_state(robots.state).rejected.sum()),
    }


class _Steps:
    """Counter of the processed steps of pieces."""

    def __init__(self) -> None:
        self._lived = 0

    def counted(self, pieces: "Iterable[Piece]", progress: Progress, whole: int) -> "Iterator[Piece]":
        """Yield the same pieces, and report each after it was processed."""
        for piece in pieces:
            yield piece
            self._lived += piece.action.shape[1]
            progress(self._lived, whole)


def _poisoned(
    setting: Setting, memory: str, lives: int, seed: int, *, progress: Progress
) -> dict[str, float]:
    """Measure for how long poisoned residuals are worse than frozen states, in s."""
    from wm_robot.adaptation.shadow import Trial, TrialConfig, believing, shadow_state
    from wm_robot.model.torch_backend import ModelLives
    from wm_robot_benchmarks.measures.consolidation import longest

    wear, robots = _robots(setting, memory, lives, seed, interval=8)
    dt, model, everyone = wear.spec.dt, robots.model, np.ones(lives, bool)
    steps = _Steps()
    robots.follow(steps.counted(_pieces(wear, WARM, 0, 0), progress, POISONED))
    robots.freeze()
    backend = ModelLives(model)
    trial, learned, kept = Trial(backend), robots.state, robots.backend
    robots.backend = trial
    poison = _reversed(model, kept.past.latest)  # type: ignore[attr-defined]
    after = list(_pieces(wear, AFTER, 0, 0))

    def worse(state: "ArrayState") -> float:
        robots.state = state
        course = robots.follow(steps.counted(after, progress, POISONED), by_step=True)
        return dt * longest(course.worse("consolidate", "frozen"))

    offered_s = worse(trial.tried(learned, poison, everyone))
    believed_s = worse(believing(learned, poison))
    rolled_back = float((shadow_state(robots.state).rejected > 0).mean())
    robots.backend = Trial(backend, config=TrialConfig(worse=float("inf")))
    unguarded_s = worse(believing(learned, poison))
    robots.backend, robots.state = kept, learned
    robots.follow(steps.counted(_pieces(wear, GARBAGE, 0, 0), progress, POISONED), garbled=True)
    garbage_s = worse(robots.state)
    return {
        "offered_s": offered_s,
        "believed_s": believed_s,
        "garbage_s": garbage_s,
        "worse_s": max(offered_s, believed_s, garbage_s),
        "unguarded_s": unguarded_s,
        "rolled_back": rolled_back,
    }


def _reversed(model: Any, chapters: Any) -> "Residual[np.ndarray]":
    """Fit a residual to these segments with reversed sign of every change."""
    import torch

    from wm_robot.adaptation.candidate import ConsolidateConfig
    from wm_robot.adaptation.residual_fit import fitted, moments, running_of
    from wm_robot.memory.lifetime_state import convert_values
    from wm_robot.model.torch_backend import array

    config, running = ConsolidateConfig(), running_of(chapters[-1])
    with torch.no_grad():
        lesson = moments(model, chapters, running, config)
    turned = 2 * lesson.obs[:, :, None] - lesson.following
    found = fitted(model, running, [lesson._replace(following=turned)], seed=0, config=config)
    residual: Residual[np.ndarray] = convert_values(array, found)
    return residual


def _robots(
    setting: Setting, memory: str, lives: int, seed: int, **consolidation: Any
) -> "tuple[Wear, Robots]":
    import torch

    from wm_robot.adaptation.candidate import ConsolidateConfig
    from wm_robot.adaptation.consolidation import AtOnce, Consolidating
    from wm_robot.adaptation.residual_fit import Consolidation
    from wm_robot.adaptation.shadow import Trial
    from wm_robot.model.torch_backend import ModelLives
    from wm_robot.robots import load_spec
    from wm_robot_benchmarks.measures.consolidation import Robots
    from wm_robot_sim.wear import Wear

    bases = bases_of(setting, [memory, "oracle"])
    model, oracle = bases[memory].model, bases["oracle"].model
    wear = Wear(load_spec(setting.robot), robots=lives, seed=seed)
    lives_of_model, hold = ModelLives(model), torch.from_numpy(wear.hold)
    trial = Trial(lives_of_model)
    config = replace(ConsolidateConfig(), **consolidation)
    consolidating = Consolidating(trial, AtOnce(Consolidation(model, config)))
    consolidating.begin()
    told = oracle.birth(hold=hold)
    return wear, Robots(model, consolidating, consolidating.birth(hold=wear.hold), oracle, told)


def _pieces(wear: "Wear", steps: int, start: float, end: float) -> "Iterator[Piece]":
    import torch

    from wm_robot_benchmarks.measures.consolidation import Piece

    for piece in wear.lived(steps, worn=(start, end)):
        yield Piece(*(torch.from_numpy(part) for part in piece))
