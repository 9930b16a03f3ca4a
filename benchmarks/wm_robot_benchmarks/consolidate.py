"""`wm-robot bench consolidate`: robots that wear beyond the training range, and poisoned residuals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.gap import explain_missing_gap
from wm_robot.progress import Progress, make_part_progress
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import Result, Setting, describe_seed_count, load_bases, require
from wm_robot_cli.values import Count, Duration, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot.adaptation.experience_buffer import ExperienceSegment
    from wm_robot.memory.lifetime_state import Residual
    from wm_robot.memory.state_arrays import ArrayState
    from wm_robot.model.world_model import WorldModel
    from wm_robot_benchmarks.measures.consolidation import RobotVariants, TrajectoryPiece
    from wm_robot_sim.wear import WearSimulation

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

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(
            self.lives >= 2,
            f"lives is {self.lives}; it must be at least 2: garbage readings come from another robot",
        )
        require(self.minutes > 0, f"minutes is {self.minutes}; it must be positive")
        lives, minutes = self.lives, self.minutes
        if self.quick:
            lives, minutes = max(2, lives // 4), minutes / 5
        seeds, base = setting.seeds, load_bases(setting, [self.memory, "oracle"])[self.memory]
        wearing = _count_wear_steps(minutes, 1 / base.model.config.dt)
        first, second = WARM + wearing + END + BACK, POISONED
        worn = in_processes(
            _measure_wear,
            [(setting, self.memory, lives, minutes, seed) for seed in seeds],
            make_part_progress(progress, 0, first, first + second),
        )
        poison = in_processes(
            _measure_poison,
            [(setting, self.memory, lives, seed) for seed in seeds],
            make_part_progress(progress, first, second, first + second),
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
            bases={self.memory: base.digest},
            notes=(
                f"{lives} robots a seed, {describe_seed_count(seeds)}; gains leave the range of training over "
                f"{minutes:g} min; error: mean square error of predictions 8 steps ahead, in units of the one-step "
                "change",
                f"in all: {sum(part['events'] for part in worn)} residuals evaluated, "
                f"{sum(part['given_up'] for part in worn)} rejected during the wear",
                "worse: longest time for which the error of the last half second is more than 1.1 times the frozen "
                "one",
                *_describe_oracle_limits(error),
            ),
        )


def _describe_oracle_limits(error: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """Describe where the oracle of the table is no bound: it was not trained for so much wear."""
    found = {
        when: explain_missing_gap(
            float(arms["frozen"].mean()), float(arms["oracle"].mean()), names=("frozen", "oracle")
        )
        for when, arms in error.items()
    }
    return [f"{when}: {reason}" for when, reason in found.items() if reason]


def _count_wear_steps(minutes: float, rate: float) -> int:
    return round(minutes * 60 * rate / 64 / 4) * 4 * 64


def _measure_wear(
    setting: Setting, memory: str, lives: int, minutes: float, seed: int, *, progress: Progress
) -> dict[str, Any]:
    """Compute the mean errors of each robot by variant and time."""
    from wm_robot.adaptation.shadow import get_shadow

    wear, robots = _make_robots(setting, memory, lives, seed)
    wearing = _count_wear_steps(minutes, wear.spec.rate)
    steps, whole = _StepCounter(), WARM + wearing + END + BACK

    def pieces(count: int, start: float, end: float) -> "Iterator[TrajectoryPiece]":
        return steps.count_pieces(_generate_pieces(wear, count, start, end), progress, whole)

    new = robots.process_pieces(pieces(WARM, 0, 0))
    robots.freeze_variant()
    robots.process_pieces(pieces(wearing // 4, 0, 0.25))
    half = robots.process_pieces(pieces(wearing // 2, 0.25, 0.75))
    robots.process_pieces(pieces(wearing // 4, 0.75, 1))
    worn = robots.process_pieces(pieces(END, 1, 1))
    back = robots.process_pieces(pieces(BACK, 0, 0))
    return {
        "new": {arm: new.compute_error(arm, WARM // 2) for arm in ARMS},
        "half worn": {arm: half.compute_error(arm) for arm in ARMS},
        "worn": {arm: worn.compute_error(arm) for arm in ARMS},
        "new again": {arm: back.compute_error(arm, SETTLED) for arm in ARMS},
        "events": int(get_shadow(robots.state).offered.sum()),
        "given_up": int(get_shadow(robots.state).rejected.sum()),
    }


class _StepCounter:
    """Counter of the processed steps of pieces."""

    def __init__(self) -> None:
        self._lived = 0

    def count_pieces(
        self, pieces: "Iterable[TrajectoryPiece]", progress: Progress, whole: int
    ) -> "Iterator[TrajectoryPiece]":
        """Yield the same pieces, and report each after it was processed."""
        for piece in pieces:
            yield piece
            self._lived += piece.action.shape[1]
            progress(self._lived, whole)


def _measure_poison(
    setting: Setting, memory: str, lives: int, seed: int, *, progress: Progress
) -> dict[str, float]:
    """Measure for how long poisoned residuals are worse than frozen states, in s."""
    from wm_robot.adaptation.consolidation import ConsolidationClient
    from wm_robot.adaptation.shadow import ShadowConfig, ShadowEvaluation, get_shadow, use_without_evaluation
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot_benchmarks.measures.consolidation import compute_longest_run

    wear, robots = _make_robots(setting, memory, lives, seed, interval=8)
    dt, model, everyone = wear.spec.dt, robots.model, np.ones(lives, bool)
    steps = _StepCounter()
    robots.process_pieces(steps.count_pieces(_generate_pieces(wear, WARM, 0, 0), progress, POISONED))
    robots.freeze_variant()
    backend = TorchBackend(model)
    trial, learned, kept = ShadowEvaluation(backend), robots.state, robots.backend
    assert isinstance(kept, ConsolidationClient)
    robots.backend = trial
    poison = _fit_reversed_residual(model, kept.experience.latest)
    after = list(_generate_pieces(wear, AFTER, 0, 0))

    def measure_worse(state: "ArrayState") -> float:
        robots.state = state
        course = robots.process_pieces(steps.count_pieces(after, progress, POISONED), keep_steps=True)
        return dt * compute_longest_run(course.is_worse("consolidate", "frozen"))

    offered_s = measure_worse(trial.start_evaluation(learned, poison, everyone))
    believed_s = measure_worse(use_without_evaluation(learned, poison))
    rolled_back = float((get_shadow(robots.state).rejected > 0).mean())
    robots.backend = ShadowEvaluation(backend, config=ShadowConfig(reject_factor=float("inf")))
    unguarded_s = measure_worse(use_without_evaluation(learned, poison))
    robots.backend, robots.state = kept, learned
    robots.process_pieces(
        steps.count_pieces(_generate_pieces(wear, GARBAGE, 0, 0), progress, POISONED), corrupt_readings=True
    )
    garbage_s = measure_worse(robots.state)
    return {
        "offered_s": offered_s,
        "believed_s": believed_s,
        "garbage_s": garbage_s,
        "worse_s": max(offered_s, believed_s, garbage_s),
        "unguarded_s": unguarded_s,
        "rolled_back": rolled_back,
    }


def _fit_reversed_residual(
    model: "WorldModel", segments: "Sequence[ExperienceSegment]"
) -> "Residual[np.ndarray]":
    """Fit a residual to these segments with reversed sign of every change."""
    import torch

    from wm_robot.adaptation.candidate import ResidualFitConfig
    from wm_robot.adaptation.residual_fit import collect_moments, fit_residual, get_segment_residual
    from wm_robot.memory.lifetime_state import convert_values
    from wm_robot.model.torch_backend import to_array

    config, running = ResidualFitConfig(), get_segment_residual(segments[-1])
    with torch.no_grad():
        moments = collect_moments(model, segments, running, config)
    reversed_obs = 2 * moments.obs[:, :, None] - moments.next_obs
    found = fit_residual(model, running, [moments._replace(next_obs=reversed_obs)], seed=0, config=config)
    residual: Residual[np.ndarray] = convert_values(to_array, found)
    return residual


def _make_robots(
    setting: Setting, memory: str, lives: int, seed: int, **consolidation: Any
) -> "tuple[WearSimulation, RobotVariants]":
    import torch

    from wm_robot.adaptation.candidate import ResidualFitConfig
    from wm_robot.adaptation.consolidation import ConsolidationClient, SynchronousLearner
    from wm_robot.adaptation.residual_fit import ResidualFitter
    from wm_robot.adaptation.shadow import ShadowEvaluation
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot.robots import load_spec
    from wm_robot_benchmarks.measures.consolidation import RobotVariants
    from wm_robot_sim.wear import WearSimulation

    bases = load_bases(setting, [memory, "oracle"])
    model, oracle = bases[memory].model, bases["oracle"].model
    wear = WearSimulation(load_spec(setting.robot), num_robots=lives, seed=seed)
    lives_of_model, hold = TorchBackend(model), torch.from_numpy(wear.last_action)
    trial = ShadowEvaluation(lives_of_model)
    config = replace(ResidualFitConfig(), **consolidation)
    consolidating = ConsolidationClient(trial, SynchronousLearner(ResidualFitter(model, config)))
    consolidating.restore_experience()
    told = oracle.initial_state(initial_action=hold)
    return wear, RobotVariants(
        model, consolidating, consolidating.initial_state(initial_action=wear.last_action), oracle, told
    )


def _generate_pieces(
    wear: "WearSimulation", steps: int, start: float, end: float
) -> "Iterator[TrajectoryPiece]":
    import torch

    from wm_robot_benchmarks.measures.consolidation import TrajectoryPiece

    for piece in wear.simulate(steps, wear_range=(start, end)):
        yield TrajectoryPiece(*(torch.from_numpy(part) for part in piece))
