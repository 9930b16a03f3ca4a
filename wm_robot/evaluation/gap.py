"""An error measured between two others, such as those of `robust` and `oracle`, and the reason where that is none."""

from collections.abc import Mapping
from dataclasses import dataclass

ENDS = ("robust", "oracle")


@dataclass(frozen=True)
class Comparison:
    """A figure, or the reason why it has no meaning."""

    value: float | None
    reason: str = ""
    """Empty where there is a value."""


def gap_closed(error: float, start: float, end: float, *, names: tuple[str, str] = ENDS) -> Comparison:
    """Part of the way from error `start` to error `end`: 1 is `end`, below 0 worse than `start`.

    Args:
        names: Of start and end, for the reason. An end that is no better than the start leaves no way to go.
    """
    reason = reason_without_gap(start, end, names=names)
    return Comparison(None, reason) if reason else Comparison(float((start - error) / (start - end)))


def against(value: float, start: float, end: float, *, names: tuple[str, str] = ENDS) -> Comparison:
    """A figure that measures against error `end`, unless that is no better than error `start`."""
    reason = reason_without_gap(start, end, names=names)
    return Comparison(None, reason) if reason else Comparison(float(value))


def reason_without_gap(start: float, end: float, *, names: tuple[str, str] = ENDS) -> str:
    """Why there is no way from error `start` to error `end`; empty where there is one."""
    if end < start:
        return ""
    return f"no gap: {names[1]} {end:.3g} is no better than {names[0]} {start:.3g}"


def mean_over_seeds(by_seed: Mapping[int, Comparison]) -> Comparison:
    """The mean of a figure over seeds; none if one of them has none, and then the reason says which."""
    values = [each.value for each in by_seed.values() if each.value is not None]
    if len(values) == len(by_seed):
        return Comparison(sum(values) / len(values))
    reasons = [f"seed {seed}: {each.reason}" for seed, each in by_seed.items() if each.value is None]
    others = f"; mean of the other {len(values)}: {sum(values) / len(values):.3g}" if values else ""
    return Comparison(None, "; ".join(reasons) + others)
