"""Figures of a check from the results of its episodes, and which episodes failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_robot.evaluation.validation.battery import Check
from wm_robot.evaluation.validation.episode import EpisodeResult

MOST_SETTLED = 20.0
"""Upper bound of a settled error in the score, in tolerances: beyond it, all errors are alike."""
LEAST_SETTLED = 0.05
CASE_FACTOR = 1.5
"""An episode is a case if its error is this much above the limit of the mean, too."""


@dataclass(frozen=True, kw_only=True)
class CheckFigures:
    """Figures of a check."""

    figures: Mapping[str, float]
    reasons: tuple[str, ...] = ()
    """Reasons for a failure that no limit has."""
    cases: tuple[str, ...] = ()
    """Labels of the episodes that failed, the worst first."""


def compute_figures(check: Check, results: Sequence[EpisodeResult]) -> CheckFigures:
    """Compute the figures of a check from the results of its episodes."""
    if check.measure == "prediction":
        return _compute_prediction_figures(check, results)
    if check.measure == "learning":
        return _compute_learning_figures(results)
    return _compute_control_figures(check, results)


def compute_score(results: Sequence[EpisodeResult]) -> float:
    """Compute the score of a bundle: geometric mean of the settled error after a change, in tolerances.

    Args:
        results: Of all episodes of control.
    """
    errors = [_read_changed(each.settled) for each in results]
    bounded = np.clip(np.nan_to_num(errors, nan=MOST_SETTLED), LEAST_SETTLED, MOST_SETTLED)
    return float(np.exp(np.log(bounded).mean())) if errors else float("nan")


def _compute_prediction_figures(check: Check, results: Sequence[EpisodeResult]) -> CheckFigures:
    errors = np.array([each.prediction[-1] if each.prediction else np.nan for each in results])
    channels = np.array([each.channel_errors for each in results if each.channel_errors])
    exchanged = sorted({pair for each in results for pair in each.exchanged})
    figures = {
        "error": _mean(errors),
        "worst_channel": float(channels.mean(0).max()) if channels.size else float("nan"),
        "exchanged_channels": float(len(exchanged)),
        "coverage": _mean(np.array([each.coverage[-1] for each in results])),
        "stopped": float(_count(results, "stopped")),
    }
    reasons = [f"what the base predicts of {pair} is exchanged" for pair in exchanged]
    limit = check.limits.get("error", (None, None))[1]
    return CheckFigures(figures=figures, reasons=tuple(reasons), cases=_find_cases(results, errors, limit))


def _compute_control_figures(check: Check, results: Sequence[EpisodeResult]) -> CheckFigures:
    during = np.array([_read_changed(each.settled) for each in results])
    figures = {
        "settled": _mean(during),
        "median": float(np.nanmedian(during)) if during.size else float("nan"),
        "worst": float(np.nanmax(during)) if during.size else float("nan"),
        "limit_hits": float(_count_changed(results, "limit")),
        "contacts": float(_count_changed(results, "contact")),
        "stopped": float(_count(results, "stopped")),
        "cold_settled": _mean(np.array([each.settled[0] for each in results])),
    }
    returned = [each.settled[2] for each in results if len(each.settled) == 3]
    if returned:
        figures["after"] = _mean(np.array(returned))
    long = [each.settled for each in results if len(each.settled) > 3]
    if long:
        third = max(1, len(long[0]) // 3)
        early, late = (
            np.nanmedian([part for each in long for part in each[span]])
            for span in (slice(1, third + 1), slice(-third, None))
        )
        figures["late_over_early"] = float(late / early)
    limit = check.limits.get("settled", (None, None))[1]
    return CheckFigures(figures=figures, cases=_find_cases(results, during, limit))


def _compute_learning_figures(results: Sequence[EpisodeResult]) -> CheckFigures:
    """Compare the variants: what learning gives, and what it costs on the nominal robot."""
    by_variant: dict[str, list[EpisodeResult]] = {}
    for each in results:
        variant = each.label.split("/", 1)[1].rsplit(" ", 1)[0]
        by_variant.setdefault(variant, []).append(each)
    figures = {}
    for variant, group in by_variant.items():
        figures[f"nominal/{variant}"] = _mean(np.array([each.settled[0] for each in group]))
        figures[f"changed/{variant}"] = _mean(np.array([_read_changed(each.settled) for each in group]))
    for name, world in (("cost_nominal", "nominal"), ("changed_ratio", "changed")):
        frozen = figures.get(f"{world}/frozen as given", float("nan"))
        figures[name] = figures.get(f"{world}/learning", float("nan")) / frozen if frozen else float("nan")
    return CheckFigures(figures=figures)


def _find_cases(results: Sequence[EpisodeResult], errors: np.ndarray, limit: float | None) -> tuple[str, ...]:
    """Find the episodes that failed: far above the limit of the mean, or in danger; the worst first."""
    bound = np.inf if limit is None else CASE_FACTOR * limit
    failed = [
        (-float(np.nan_to_num(error, nan=np.inf)), each.label)
        for each, error in zip(results, errors, strict=True)
        if not error <= bound or each.dangers
    ]
    return tuple(label for _, label in sorted(failed))


def _read_changed(settled: Sequence[float]) -> float:
    """Return the settled error after the first change; of the only world, where nothing changes."""
    return settled[min(1, len(settled) - 1)]


def _count(results: Sequence[EpisodeResult], kind: str) -> int:
    return sum(each.count_dangers(kind) for each in results)


def _count_changed(results: Sequence[EpisodeResult], kind: str) -> int:
    """Count the dangers since the first change: what was before it is a matter of the nominal robot."""
    return sum(
        danger.kind == kind and danger.world >= min(1, len(each.settled) - 1)
        for each in results
        for danger in each.dangers
    )


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if values.size and np.isfinite(values).any() else float("nan")
