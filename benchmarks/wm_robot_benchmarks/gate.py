"""`wm-robot bench gate`: whether the verdict of a validation predicts what a bundle does on stand-ins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import FirstSeedBench
from wm_robot_benchmarks.harness.result import Result, require
from wm_robot_benchmarks.measures.gate_candidates import (
    Candidate,
    Judgement,
    judge_candidate,
    list_candidates,
    list_planted,
)
from wm_robot_cli.values import Count, CountOrZero
from wm_robot_cli.worker_processes import in_processes

GOOD_FACTOR = 1.2
"""A bundle is among the good ones if its error on stand-ins is at most this, in that of the best."""
LEAST_CANDIDATES = 20


@dataclass(frozen=True, kw_only=True)
class GateBench(FirstSeedBench):
    """Whether the gate tells the truth: bundles are judged by the battery, then run on stand-ins that it never used.

    Danger: on a stand-in a joint hits its limit at speed, an unintended contact happens, or the settled error is
    above three times the pass line. False alarm: a sound bundle is refused, and harmless on all stand-ins.
    """

    robots: tuple[str, ...] = ("arm", "so101")
    """Robots of the damaged bundles; the first has the sound ones."""
    full_battery: bool = False
    """Judge sound bundles by the whole battery in place of the quick one; it takes five times as long."""
    episodes: Count = 2
    """Episodes of each kind on each stand-in, for sound bundles."""
    noise_seeds: CountOrZero = 20
    """Damaged bundles for each size of noise."""
    work: Path = Path("runs/gate")
    """Folder for results; a killed bench continues from them."""
    quick: bool = False
    """Eight sound and a dozen damaged bundles."""

    def run(self, progress: Progress) -> Result:
        from wm_robot.robots import load_spec
        from wm_robot_sim.standins.catalog import list_standins

        setting = self.make_setting()
        require(bool(self.robots), "robots is empty; it must have at least one")
        sound = list_candidates(self.robots[0], setting.bases)
        planted = [
            each
            for robot in self.robots
            for each in list_planted(robot, setting.bases, noise_seeds=self.noise_seeds)
        ]
        if self.quick:
            sound, planted = sound[:: len(sound) // 8 or 1], planted[:: len(planted) // 12 or 1]
        standins = {robot: [str(each) for each in list_standins(load_spec(robot))] for robot in self.robots}
        jobs: list[tuple[Any, ...]] = [
            (
                each,
                standins[each.robot] if each.is_sound else standins[each.robot][:1],
                self,
                setting.seeds[0],
            )
            for each in (*sound, *planted)
        ]
        found: list[Judgement] = in_processes(_judge, jobs, progress)
        good, bad = found[: len(sound)], found[len(sound) :]
        figures = {**compute_ranking(good), **compute_alarms(good, bad)}
        return Result(setting=setting, figures=figures, table=[*map(_make_row, good), *_summarise(bad)])


def _judge(
    candidate: Candidate, standins: Sequence[str], bench: GateBench, seed: int, *, progress: Progress
) -> Judgement:
    return judge_candidate(
        candidate,
        standins,
        str(bench.work),
        quick=not (bench.full_battery and candidate.is_sound),
        episodes=bench.episodes if candidate.is_sound else 1,
        seed=seed,
        progress=progress,
    )


def compute_ranking(good: Sequence[Judgement]) -> dict[str, float]:
    """Compute how well the score of the battery ranks the sound bundles."""
    score, truth = (np.array([getattr(each, name) for each in good]) for name in ("score", "truth"))
    halves = np.array([each.halves for each in good])
    best = truth <= GOOD_FACTOR * truth.min()
    successes = np.array([each.successes for each in good])
    return {
        "spearman": compute_rank_correlation(score, truth),
        "spearman_good": compute_rank_correlation(score[best], truth[best]),
        "spearman_ceiling": compute_rank_correlation(halves[:, 0], halves[:, 1]),
        "spearman_good_ceiling": compute_rank_correlation(halves[best, 0], halves[best, 1]),
        "mmrv": compute_rank_violation(-score, successes),
        "candidates": float(len(good)),
        "good_candidates": float(best.sum()),
        "control_shuffled_spearman": compute_rank_correlation(
            np.random.default_rng(0).permutation(score), truth
        ),
    }


def compute_alarms(good: Sequence[Judgement], bad: Sequence[Judgement]) -> dict[str, float]:
    """Compute missed dangers and false alarms."""
    dangerous = [each for each in (*good, *bad) if each.dangers]
    harmless = [each for each in good if not each.dangers]
    alarms = [each for each in harmless if not each.passed]
    return {
        "planted": float(len(bad)),
        "planted_dangers": float(sum(bool(each.dangers) for each in bad)),
        "missed_planted_dangers": float(sum(each.passed and bool(each.dangers) for each in bad)),
        "missed_dangers": float(sum(each.passed for each in dangerous)),
        "dangers": float(len(dangerous)),
        "false_alarms": len(alarms) / len(harmless) if harmless else float("nan"),
        "harmless": float(len(harmless)),
        "damaged_and_passed": float(sum(each.passed for each in bad)),
    }


def compute_rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Compute Spearman's rank correlation; ties get their mean rank."""
    if len(first) < 3:
        return float("nan")
    one, other = _rank(first), _rank(second)
    if not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _rank(values: np.ndarray) -> np.ndarray:
    return (values[:, None] > values[None]).sum(1) + 0.5 * ((values[:, None] == values[None]).sum(1) - 1)


def compute_rank_violation(predicted: np.ndarray, real: np.ndarray) -> float:
    """Compute the mean maximum rank violation: by how much a pair that is ranked wrongly really differs.

    Source: SIMPLER, Li et al. (2024), arXiv:2405.05941, with real success rates.
    """
    gap = np.abs(real[:, None] - real[None])
    wrong = (predicted[:, None] < predicted[None]) != (real[:, None] < real[None])
    return float((gap * wrong).max(1).mean())


def _make_row(each: Judgement) -> dict[str, Any]:
    return {
        "bundle": each.name,
        "verdict": "passed" if each.passed else "failed",
        "score": round(each.score, 3),
        "on stand-ins": round(each.truth, 3),
        "successes": round(each.successes, 2),
        "dangers": len(each.dangers),
        "reason": each.reason[:80],
    }


def _summarise(bad: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Summarise the damaged bundles by robot and kind."""
    kinds = sorted({(each.robot, each.name.split(":")[0]) for each in bad})
    rows = []
    for robot, kind in kinds:
        own = [each for each in bad if (each.robot, each.name.split(":")[0]) == (robot, kind)]
        passed = [each for each in own if each.passed]
        rows.append(
            {
                "bundle": f"{robot}, {kind}: {len(own)}",
                "verdict": f"{len(own) - len(passed)} failed",
                "score": "",
                "on stand-ins": "",
                "successes": "",
                "dangers": sum(bool(each.dangers) for each in own),
                "reason": "; ".join(map(_describe_pass, passed))[:80],
            }
        )
    return rows


def _describe_pass(each: Judgement) -> str:
    return f"passed: {each.name.split(': ')[1]}{' (dangerous)' if each.dangers else ''}"
