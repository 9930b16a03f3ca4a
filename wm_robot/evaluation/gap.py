"""Gap comparison: an error relative to two other errors, such as those of `robust` and `oracle`."""

from collections.abc import Mapping
from dataclasses import dataclass

REFERENCE_VARIANTS = ("robust", "oracle")


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison: a value, or the reason why there is none."""

    value: float | None
    reason: str = ""
    """Empty if there is a value."""


def compute_gap_closed(
    error: float, start: float, end: float, *, names: tuple[str, str] = REFERENCE_VARIANTS
) -> Comparison:
    """Compute the part of the way from error `start` to error `end`: 1 is `end`, below 0 is worse than `start`.

    Args:
        names: Names of start and end, for the reason. If the end is no better than the start, there is no gap.
    """
    reason = explain_missing_gap(start, end, names=names)
    return Comparison(None, reason) if reason else Comparison(float((start - error) / (start - end)))


def require_gap(
    value: float, start: float, end: float, *, names: tuple[str, str] = REFERENCE_VARIANTS
) -> Comparison:
    """Return a value that relates to error `end`, unless `end` is no better than `start`."""
    reason = explain_missing_gap(start, end, names=names)
    return Comparison(None, reason) if reason else Comparison(float(value))


def explain_missing_gap(start: float, end: float, *, names: tuple[str, str] = REFERENCE_VARIANTS) -> str:
    """Return why there is no gap from error `start` to error `end`; empty if there is one."""
    if end < start:
        return ""
    return f"no gap: {names[1]} {end:.3g} is no better than {names[0]} {start:.3g}"


def average_over_seeds(by_seed: Mapping[int, Comparison]) -> Comparison:
    """Compute the mean over seeds. If a seed has no value, the result has none and the reason names the seed."""
    values = [each.value for each in by_seed.values() if each.value is not None]
    if len(values) == len(by_seed):
        return Comparison(sum(values) / len(values))
    reasons = [f"seed {seed}: {each.reason}" for seed, each in by_seed.items() if each.value is None]
    others = f"; mean of the other {len(values)}: {sum(values) / len(values):.3g}" if values else ""
    return Comparison(None, "; ".join(reasons) + others)
