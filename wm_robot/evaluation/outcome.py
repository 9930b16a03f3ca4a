"""Outcome of a session with a hidden change, in numbers and words, for report, terminal and film.

All statements come from the recorded errors, by the definitions of `Recovery`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm_robot.evaluation.recovery import START, STAY, Recovery, rolling_mean

FOLLOWING = 0.06
"""Error in m above which a robot does not follow its target at all."""
LEAST_TOLD = 0.05
"""Shortest reported time in s: a shorter one rounds to zero."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """Target error of one robot over a session."""

    name: str
    time: np.ndarray
    """`T`, in s since the start of the session."""
    error: np.ndarray
    """`T`, distance from gripper to target, in m."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Time after the change of the largest difference between two robots."""

    time: float
    """In s since the start of the session."""
    errors: tuple[float, float]
    """Mean error of the last `WINDOW_SECONDS` of each robot, in m."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Effect of a change on the robots of a session."""

    changed: str
    """Description of the change."""
    change: float | None
    """Time of the change, in s since the start of the session; None without a change."""
    names: tuple[str, ...]
    """Names of the robots, the learning one first."""
    recoveries: tuple[Recovery | None, ...]
    """Recovery of each robot; None if the session is too short."""
    largest: Difference | None
    """Largest difference of the first two robots; None without two recoveries."""

    @classmethod
    def of(
        cls, tracks: Sequence[Track], *, change: float | None, changed: str, start: float = START
    ) -> "Outcome":
        """Evaluate a session.

        Args:
            start: Time from which the error before the change counts, in s.
        """
        if change is not None and not any(len(track.time) and track.time[-1] >= change for track in tracks):
            # The session ended before the change.
            change = None
        recoveries: tuple[Recovery | None, ...] = tuple(
            None if change is None else Recovery.of(track.time, track.error, change=change, start=start)
            for track in tracks
        )
        told = len(tracks) > 1 and None not in recoveries
        return Outcome(
            changed=changed,
            change=change,
            names=tuple(track.name for track in tracks),
            recoveries=recoveries,
            largest=_largest(tracks[0], tracks[1], change) if told and change is not None else None,
        )

    @property
    def headline(self) -> str:
        """Result in one line. It contains no claim beyond `sentences`."""
        learning, *rest = self.recoveries
        other = rest[0] if rest else None
        if learning is None or (rest and other is None):
            return "The visit ended too early to show the effect of a change."
        if not learning.before < FOLLOWING:
            return "The arm that learns did not follow its target, even before the change."
        if other is None:
            return _headline_of_one(learning)
        twin = f"the {self.names[1]} arm"
        if not other.before < FOLLOWING:
            return f"{_first_capital(twin)} did not follow its target, even before the change."
        if not (learning.disturbed or other.disturbed):
            return "The change disturbed neither arm."
        if not learning.disturbed:
            return f"The change moved {twin} off its target; the arm that learns stayed on it."
        if not other.disturbed:
            return f"The change moved the arm that learns off its target; {twin} stayed on it."
        if learning.recovered and other.recovered:
            return (
                "Both arms lost their target and came back; the arm that learns was off it for "
                f"{learning.off:.1f} s, {twin} for {other.off:.1f} s."
            )
        if learning.recovered:
            return f"The arm that learns came back to its target to stay; {twin} did not."
        if other.recovered:
            return f"{_first_capital(twin)} came back to its target to stay; the arm that learns did not."
        return "Neither arm came back to its target to stay, in this visit."

    @property
    def story(self) -> tuple[str, ...]:
        """Result in plain sentences."""
        if self.change is None:
            return ("The visit ended before the world changed.",)
        begun = f"{self.change:.1f} s after the start the world changed: {self.changed}."
        if None in self.recoveries:
            return (f"{begun} The visit ended too soon after it to show the effect.",)
        told = [
            f"{begun} Neither robot received this information; both had the same target and the same seed."
        ]
        for name, recovery in zip(self.names, self.recoveries, strict=True):
            assert recovery is not None
            told.append(_sentence(name, recovery))
        if self.largest is not None:
            told.append(self.difference)
        return tuple(told)

    @property
    def difference(self) -> str:
        """Sentence about the largest difference; empty without one."""
        if self.largest is None or self.change is None:
            return ""
        errors = ", ".join(
            f"{name} {_mm(error)}" for name, error in zip(self.names, self.largest.errors, strict=False)
        )
        return f"They differed most {self.largest.time - self.change:.1f} s after the change: {errors}."


def _headline_of_one(learning: Recovery) -> str:
    if not learning.disturbed:
        return "The change did not disturb the arm that learns."
    if learning.recovered:
        return "The arm that learns came back to its target to stay."
    return "The arm that learns did not come back to its target to stay, in this visit."


def _sentence(name: str, recovery: Recovery) -> str:
    """Describe the effect of the change on one robot."""
    if not recovery.disturbed:
        return (
            f"The {name} arm stayed on its target: {_mm(recovery.after)} off on average, as against "
            f"{_mm(recovery.before)} before the change, and {_mm(recovery.worst)} at worst."
        )
    told = (
        f"The {name} arm was off its target for {recovery.off:.1f} of the {recovery.watched:.1f} s after the change, "
        f"by {_mm(recovery.worst)} at worst"
    )
    left = recovery.watched - recovery.last_off
    if recovery.recovered:
        return f"{told}; it was back to stay after {recovery.last_off:.1f} s."
    if left >= LEAST_TOLD:
        return (
            f"{told}; when the visit ended it had been back for {left:.1f} s, and {STAY:.0f} s are required."
        )
    return f"{told}, and up to the end of the visit."


def _largest(one: Track, other: Track, change: float) -> Difference:
    """Find the time of the largest difference. Each robot's time counts from its own first command."""
    time = one.time[(one.time >= change) & (one.time <= other.time[-1])]
    first, second = (
        np.interp(time, track.time, rolling_mean(track.time, track.error)) for track in (one, other)
    )
    at = int(np.abs(first - second).argmax())
    return Difference(time=float(time[at]), errors=(float(first[at]), float(second[at])))


def _mm(meters: float) -> str:
    return f"{1e3 * meters:.0f} mm"


def _first_capital(words: str) -> str:
    return words[:1].upper() + words[1:]
