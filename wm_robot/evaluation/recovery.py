"""What a hidden change does to a robot at its task: when it is off its target, how far, and from when it is back."""

from dataclasses import dataclass

import numpy as np

WINDOW = 0.5
"""Length in s over which an error is averaged before it is judged."""
START = 2.0
"""Seconds of a visit from which errors count: the target has to be reached first."""
TOLERANCE = 1.5
"""A robot is off its target above this many times its mean error before the change."""
CLOSE = 0.01
"""Error in m that always counts as on target: below it, 1.5 times next to nothing would be asked for."""
STAY = 2.0
"""Seconds for which a robot must be on its target, up to the end of the visit, to count as recovered."""
SETTLED = 1.0
"""Seconds after the change from which the settled error is taken, up to the end of the visit."""


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
    """Error in m above which a robot is off its target, from its mean error before the change."""
    return max(TOLERANCE * before, CLOSE)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What a change did to one robot, from the change to the end of the visit.

    The robot is *off its target* while its mean error of the last `WINDOW` is above `threshold`. It was *disturbed*
    if it ever was off its target. It has *recovered* if it then was on its target up to the end of the visit, for
    `STAY` at least.
    """

    before: float
    """Mean error before the change, in m."""
    after: float
    """Mean error from `SETTLED` after it on, in m."""
    worst: float
    """Largest mean error of a `WINDOW` after it, in m."""
    worst_after: float
    """When that was, in s after the change."""
    off: float
    """Time off its target, in s."""
    last_off: float
    """Last time that it was off its target, in s after the change; 0 if it never was."""
    watched: float
    """From the change to the end of the visit, in s."""

    @property
    def disturbed(self) -> bool:
        """Whether it ever was off its target."""
        return self.worst > threshold(self.before)

    @property
    def recovered(self) -> bool:
        """Whether it was disturbed and came back to stay."""
        return self.disturbed and self.watched - self.last_off >= STAY

    @classmethod
    def of(
        cls, time: np.ndarray, error: np.ndarray, *, change: float, start: float = START
    ) -> "Recovery | None":
        """Judge one robot; None if it was not watched before the change, or not for long enough after it to tell.

        Args:
            time: `T`, in s.
            error: Distance from gripper to target, `T`, in m.
            change: When the world changed, in s.
            start: From when the error before it counts, in s.
        """
        if not len(time) or time[-1] < change + SETTLED + STAY:
            return None
        before = level(time, error, (start, change))
        after = level(time, error, (change + SETTLED, np.inf))
        if np.isnan(before) or np.isnan(after):
            return None
        watched = time >= change
        since, smooth = time[watched] - change, rolling_mean(time, error)[watched]
        off = smooth > threshold(before)
        return cls(
            before=before,
            after=after,
            worst=float(smooth.max()),
            worst_after=float(since[smooth.argmax()]),
            off=float((np.diff(since) * off[:-1]).sum()),
            last_off=float(since[off].max(initial=0.0)),
            watched=float(since[-1]),
        )
