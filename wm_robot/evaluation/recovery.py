"""Recovery from a hidden change: size and duration of a robot's target error, and the time of its return."""

from dataclasses import dataclass

import numpy as np

from wm_robot.tasks.task_error import GRIPPER_SCALE

WINDOW_SECONDS = 0.5
"""Length in s of the window of mean errors."""
START_SECONDS = 2.0
"""Seconds of a session before errors count: the robot has to reach the target first."""
OFF_TARGET_FACTOR = 1.5
"""A robot is off its target above this factor on its mean error before the change."""
MIN_OFF_TARGET_ERROR = GRIPPER_SCALE.min_off_target
"""Error that always counts as on target, of a gripper in m; see `ErrorScale`."""
RECOVERED_SECONDS = 2.0
"""Seconds on target, up to the end of the session, that count as recovered."""
SETTLE_SECONDS = 1.0
"""Seconds after the change from which the settled error is measured, up to the end of the session."""


def compute_rolling_mean(
    time: np.ndarray, value: np.ndarray, *, window: float = WINDOW_SECONDS
) -> np.ndarray:
    """Compute the mean of the last `window` seconds at each time, `T`; at the start, of the available part."""
    first = np.searchsorted(time, time - window, side="right")
    total = np.concatenate([[0.0], np.cumsum(value, dtype=float)])
    after = np.arange(1, len(value) + 1)
    return (total[after] - total[first]) / (after - first)


def compute_span_mean(time: np.ndarray, error: np.ndarray, span: tuple[float, float]) -> float:
    """Compute the mean error in a span of time; NaN without measurements."""
    inside = (time >= span[0]) & (time < span[1])
    return float(error[inside].mean()) if inside.any() else float("nan")


def compute_off_target_limit(before: float, min_off_target: float = MIN_OFF_TARGET_ERROR) -> float:
    """Compute the error above which a robot is off its target, from its mean error before the change.

    Args:
        min_off_target: Error that always counts as on target, in the same unit.
    """
    return max(OFF_TARGET_FACTOR * before, min_off_target)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Effect of a change on one robot, from the change to the end of the session; errors in the unit of its task.

    The robot is *off its target* while its mean error of the last `WINDOW_SECONDS` is above the result of
    `compute_off_target_limit`. It was *disturbed* if it was off its target at any time. It has *recovered* if it
    then was on its target up to the end of the session, for at least `RECOVERED_SECONDS`.
    """

    error_before: float
    """Mean error before the change."""
    error_after: float
    """Mean error from `SETTLE_SECONDS` after the change on."""
    worst_error: float
    """Largest mean error of a `WINDOW_SECONDS` after the change."""
    worst_time: float
    """Time of that error, in s after the change."""
    off_target_time: float
    """Time off its target, in s."""
    last_off_target: float
    """Last time off its target, in s after the change; 0 if it never was."""
    observed_time: float
    """Time from the change to the end of the session, in s."""
    min_off_target: float = MIN_OFF_TARGET_ERROR
    """Error that always counts as on target."""

    @property
    def was_disturbed(self) -> bool:
        """Whether it was off its target at any time."""
        return self.worst_error > compute_off_target_limit(self.error_before, self.min_off_target)

    @property
    def has_recovered(self) -> bool:
        """Whether it was disturbed and returned for good."""
        return self.was_disturbed and self.observed_time - self.last_off_target >= RECOVERED_SECONDS

    @classmethod
    def from_errors(
        cls,
        time: np.ndarray,
        error: np.ndarray,
        *,
        change_time: float,
        start: float = START_SECONDS,
        min_off_target: float = MIN_OFF_TARGET_ERROR,
    ) -> "Recovery | None":
        """Evaluate one robot; None if the session is too short before or after the change.

        Args:
            time: `T`, in s.
            error: `T`, such as the distance from gripper to target in m.
            change_time: Time of the change, in s.
            start: Time from which the error before the change counts, in s.
            min_off_target: Error that always counts as on target.
        """
        if not len(time) or time[-1] < change_time + SETTLE_SECONDS + RECOVERED_SECONDS:
            return None
        before = compute_span_mean(time, error, (start, change_time))
        after = compute_span_mean(time, error, (change_time + SETTLE_SECONDS, np.inf))
        if np.isnan(before) or np.isnan(after):
            return None
        watched = time >= change_time
        since, smooth = time[watched] - change_time, compute_rolling_mean(time, error)[watched]
        off = smooth > compute_off_target_limit(before, min_off_target)
        return Recovery(
            error_before=before,
            error_after=after,
            worst_error=float(smooth.max()),
            worst_time=float(since[smooth.argmax()]),
            off_target_time=float((np.diff(since) * off[:-1]).sum()),
            last_off_target=float(since[off].max(initial=0.0)),
            observed_time=float(since[-1]),
            min_off_target=min_off_target,
        )
