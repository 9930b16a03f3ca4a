"""How soon, and how well, a robot does its task again after a hidden change."""

from dataclasses import dataclass

import numpy as np

WINDOW = 0.5
"""Length in s over which an error is averaged before it is judged."""
TOLERANCE = 1.5
"""Recovered is below this many times the level before the change."""
CLOSE = 0.01
"""Error in m that always counts as recovered: below it, 1.5 times next to nothing would be asked for."""
STAY = 2.0
"""Seconds that it must at least be watched from then on."""
SHARE = 0.9
"""Part of the time from then on for which it must stay low: the target moves, and some of its places are hard."""
SETTLED = (1.0, 10.0)
"""Seconds after the change in which the settled error is taken; `STAY` of them must have been seen."""


def rolling_mean(time: np.ndarray, value: np.ndarray, *, window: float = WINDOW) -> np.ndarray:
    """Mean of the last `window` seconds at each time, `T`; at the start, of what there is."""
    first = np.searchsorted(time, time - window, side="right")
    total = np.concatenate([[0.0], np.cumsum(value, dtype=float)])
    after = np.arange(1, len(value) + 1)
    return (total[after] - total[first]) / (after - first)


def level(time: np.ndarray, error: np.ndarray, span: tuple[float, float]) -> float:
    """Mean error in a span of time, NaN where nothing was measured."""
    inside = (time >= span[0]) & (time < span[1])
    return float(error[inside].mean()) if inside.any() else float("nan")


def threshold(before: float) -> float:
    """Error in m below which a robot has recovered, from the level before the change."""
    return max(TOLERANCE * before, CLOSE)


def time_to_recover(time: np.ndarray, error: np.ndarray, *, change: float, before: float) -> float | None:
    """Seconds from the change until the rolling error is low again and stays so; None if it is not.

    Zero if it never rose. The window looks back, so otherwise nothing below its length is found. Watched is
    what `SETTLED` watches.

    Args:
        before: Level of the error before the change.
    """
    watched = (time >= change) & (time <= change + SETTLED[1])
    since, low = time[watched] - change, rolling_mean(time, error)[watched] < threshold(before)

    def stays_from(moment: float) -> bool:
        return bool(len(since) and since[-1] >= moment + STAY and low[since >= moment].mean() >= SHARE)

    if low[since < WINDOW].all() and stays_from(0.0):
        return 0.0
    # Before that the window still averages over the old world.
    found = (float(moment) for moment in since[low & (since >= WINDOW)] if stays_from(moment))
    return next(found, None)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What a change did to one robot."""

    before: float
    """Mean error before the change, in m."""
    after: float
    """Mean settled error after it, in m."""
    seconds: float | None
    """Until the error was low again; None if it was not."""

    @classmethod
    def of(cls, time: np.ndarray, error: np.ndarray, *, change: float, start: float) -> "Recovery | None":
        """Judge one robot; None if it was not watched before the change, or not for long enough after it to tell.

        Args:
            time: `T`, in s.
            error: Distance from gripper to target, `T`, in m.
            change: When the world changed, in s.
            start: From when the error before it counts, in s: a robot needs a moment to reach its target.
        """
        if not len(time) or time[-1] < change + SETTLED[0] + STAY:
            return None
        before = level(time, error, (start, change))
        after = level(time, error, (change + SETTLED[0], change + SETTLED[1]))
        if np.isnan(before) or np.isnan(after):
            return None
        seconds = time_to_recover(time, error, change=change, before=before)
        end = min(float(time[-1]), change + SETTLED[1])
        last = rolling_mean(time, error)[time <= end][-1]
        if seconds is None and end < change + SETTLED[1] - WINDOW and last < threshold(before):
            # Low at the end, and not watched for long enough to say that it stays.
            return None
        return cls(before=before, after=after, seconds=seconds)
