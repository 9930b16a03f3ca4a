"""Worst cases: the episodes of a validation that are worth watching, the worst first."""

from collections.abc import Sequence

import numpy as np

from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.report.heat_maps import read_changed_error
from wm_robot.evaluation.validation.scenario import Scenario
from wm_robot.evaluation.validation.verdict import Verdict

DANGER_RATIO = 2.0
"""An episode with a danger counts as one of this many pass lines more."""


def select_worst_cases(
    verdict: Verdict,
    scenarios: Sequence[Scenario],
    results: Sequence[EpisodeResult],
    *,
    count: int,
    max_steps: int,
) -> list[tuple[Scenario, EpisodeResult]]:
    """Select the worst episodes of control, of different checks where there are enough.

    Args:
        max_steps: Longest episode that is selected.
    """
    limits = {
        each.check.name: each.check.limits.get("settled", (None, None))[1]
        for each in verdict.outcomes
        if each.check.measure == "control"
    }
    known = {each.label: each for each in results}
    ranked = sorted(
        (
            (-_rate_episode(known[each.label], limits[each.check]), each.label, each)
            for each in scenarios
            if each.label in known and each.check in limits and each.num_steps <= max_steps
        ),
        key=lambda rated: rated[:2],
    )
    firsts = {scenario.check: label for _, label, scenario in reversed(ranked)}
    ordered = sorted(ranked, key=lambda rated: firsts[rated[2].check] != rated[1])
    return [(scenario, known[label]) for _, label, scenario in ordered[:count]]


def _rate_episode(result: EpisodeResult, limit: float | None) -> float:
    """Rate how bad an episode is, in pass lines of its check."""
    error = float(np.nan_to_num(read_changed_error(result), nan=1e9))
    return error / (limit or 1.0) + (DANGER_RATIO if result.dangers else 0.0)
