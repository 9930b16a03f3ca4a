"""Recovery from a hidden change: size and duration of a robot's target error, and the time of its return."""

from dataclasses import dataclass

import numpy as np

WINDOW = 0.5
"""Length in s of the window of mean errors."""
START = 2.0
"""Seconds of a session before errors count: the robot has to reach the target first."""
TOLERANCE = 1.5
"""A robot is off its target above this factor on its mean error before the change."""
CLOSE = 0.01
"""Error in m that always counts as on target. Without it, the limit for a tiny error would be tiny."""
STAY = 2.0
"""Seconds on target, up to the end of the session, that count as recovered."""
SETTLED = 1.0
"""Seconds after the change from which the settled error is measured, up to the end of the session."""


def rolling_mean(time: np.ndarray, value: np.ndarray, *, window: float = WINDOW) -> np.ndarray:
    """Compute the mean of the last `window` seconds at each time, `T`; at the start, of the available part."""
    first = np.searchsorted(time, time - window, side="right")
    total = np.concatenate([[0.0], np.cumsum(value, dtype=float)])
    after = np.arange(1, len(value) + 1)
    return (total[after] - total[first]) / (after - first)


def level(time: np.ndarray, error: np.ndarray, span: tuple[float, float]) -> float:
    """Compute the mean error in a span of time; NaN without measurements."""
    inside = (time >= span[0]) & (time < span[1])
    return float(error[inside].mean()) if inside.any() else float("nan")


def threshold(before: float) -> float:
    """Compute the error in m above which a robot is off its target, from its mean error before the change."""
    return max(TOLERANCE * before, CLOSE)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Effect of a change on one robot, from the change to the end of the session.

    The robot is *off its target* while its mean error of the last `WINDOW_SECONDS` is above the result of
    `compute_off_target_limit`. It was *disturbed* if it was off its target at any time. It has *recovered* if it
    then was on its target up to the end of the session, for at least `RECOVERED_SECONDS`.
    """

    before: float
    """Mean error before the change, in m."""
    after: float
    """Mean error from `SETTLE_SECONDS` after the change on, in m."""
    worst: float
    """Largest mean error of a `WINDOW_SECONDS` after the change, in m."""
    worst_after: float
    """Time of that error, in s after the change."""
    off: float
    """Time off its target, in s."""
    last_off: float
    """Last time off its target, in s after the change; 0 if it never was."""
    watched: float
    """Time from the change to the end of the session, in s."""

    @property
    def disturbed(self) -> bool:
        """Whether it was off its target at any time."""
        return self.worst > threshold(self.before)

    @property
    def recovered(self) -> bool:
        """Whether it was disturbed and returned for good."""
        return self.disturbed and self.watched - self.last_off >= STAY

    @classmethod
    def of(
        cls, time: np.ndarray, error: np.ndarray, *, change: float, start: float = START
    ) -> "Recovery | None":
        """Evaluate one robot; None if the session is too short before or after the change.

        Args:
            time: `T`, in s.
            error: Distance from gripper to target, `T`, in m.
            change_time: Time of the change, in s.
            start: Time from which the error before the change counts, in s.
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
        return Recovery(
            before=before,
            after=after,
            worst=float(smooth.max()),
            worst_after=float(since[smooth.argmax()]),
            off=float((np.diff(since) * off[:-1]).sum()),
            last_off=float(since[off].max(initial=0.0)),
            watched=float(since[-1]),
        )
