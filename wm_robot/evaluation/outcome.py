"""Outcome of a session with a hidden change, in numbers and words, for report, terminal and film.

All statements come from the recorded errors, by the definitions of `Recovery`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm_robot.evaluation.recovery import RECOVERED_SECONDS, START_SECONDS, Recovery, compute_rolling_mean
from wm_robot.tasks import ErrorScale
from wm_robot.tasks.task_error import GRIPPER_SCALE

MIN_REPORTED_SECONDS = 0.05
"""Shortest reported time in s: a shorter one rounds to zero."""


@dataclass(frozen=True, kw_only=True)
class ErrorTrack:
    """Target error of one robot over a session."""

    name: str
    time: np.ndarray
    """`T`, in s since the start of the session."""
    error: np.ndarray
    """`T`, error of its task, such as the distance from gripper to target in m."""


@dataclass(frozen=True, kw_only=True)
class LargestDifference:
    """Time after the change of the largest difference between two robots."""

    time: float
    """In s since the start of the session."""
    errors: tuple[float, float]
    """Mean error of the last `WINDOW_SECONDS` of each robot."""


@dataclass(frozen=True, kw_only=True)
class SessionOutcome:
    """Effect of a change on the robots of a session."""

    change_description: str
    """Description of the change."""
    change_time: float | None
    """Time of the change, in s since the start of the session; None without a change."""
    names: tuple[str, ...]
    """Names of the robots, the learning one first."""
    recoveries: tuple[Recovery | None, ...]
    """Recovery of each robot; None if the session is too short."""
    largest_difference: LargestDifference | None
    """Largest difference of the first two robots; None without two recoveries."""
    scale: ErrorScale = GRIPPER_SCALE
    """Unit of the errors, and the sizes from which they count."""

    @classmethod
    def from_tracks(
        cls,
        tracks: Sequence[ErrorTrack],
        *,
        change_time: float | None,
        change_description: str,
        start: float = START_SECONDS,
        scale: ErrorScale = GRIPPER_SCALE,
    ) -> "SessionOutcome":
        """Evaluate a session.

        Args:
            start: Time from which the error before the change counts, in s.
            scale: Scale of the errors.
        """
        if change_time is not None and not any(
            len(track.time) and track.time[-1] >= change_time for track in tracks
        ):
            # The session ended before the change.
            change_time = None
        recoveries: tuple[Recovery | None, ...] = tuple(
            None
            if change_time is None
            else Recovery.from_errors(
                track.time,
                track.error,
                change_time=change_time,
                start=start,
                min_off_target=scale.min_off_target,
            )
            for track in tracks
        )
        told = len(tracks) > 1 and None not in recoveries
        return SessionOutcome(
            change_description=change_description,
            change_time=change_time,
            names=tuple(track.name for track in tracks),
            recoveries=recoveries,
            largest_difference=_find_largest_difference(tracks[0], tracks[1], change_time)
            if told and change_time is not None
            else None,
            scale=scale,
        )

    @property
    def headline(self) -> str:
        """Result in one line. It contains no claim beyond `sentences`."""
        learning, *rest = self.recoveries
        noun, limit = self.scale.robot_noun, self.scale.max_following
        other = rest[0] if rest else None
        if learning is None or (rest and other is None):
            return "The visit ended too early to show the effect of a change."
        if not learning.error_before < limit:
            return f"The {noun} that learns did not follow its target, even before the change."
        if other is None:
            return _summarize_single_robot(learning, noun)
        twin = f"the {self.names[1]} {noun}"
        if not other.error_before < limit:
            return f"{_capitalize_first(twin)} did not follow its target, even before the change."
        if not (learning.was_disturbed or other.was_disturbed):
            return f"The change disturbed neither {noun}."
        if not learning.was_disturbed:
            return f"The change moved {twin} off its target; the {noun} that learns stayed on it."
        if not other.was_disturbed:
            return f"The change moved the {noun} that learns off its target; {twin} stayed on it."
        if learning.has_recovered and other.has_recovered:
            return (
                f"Both {noun}s lost their target and came back; the {noun} that learns was off it for "
                f"{learning.off_target_time:.1f} s, {twin} for {other.off_target_time:.1f} s."
            )
        if learning.has_recovered:
            return f"The {noun} that learns came back to its target to stay; {twin} did not."
        if other.has_recovered:
            return (
                f"{_capitalize_first(twin)} came back to its target to stay; the {noun} that learns did not."
            )
        return f"Neither {noun} came back to its target to stay, in this visit."

    @property
    def sentences(self) -> tuple[str, ...]:
        """Result in plain sentences."""
        if self.change_time is None:
            return ("The visit ended before the world changed.",)
        begun = f"{self.change_time:.1f} s after the start the world changed: {self.change_description}."
        if None in self.recoveries:
            return (f"{begun} The visit ended too soon after it to show the effect.",)
        told = [
            f"{begun} Neither robot received this information; both had the same target and the same seed."
            + ("" if self.scale.unit else f" Errors are the {self.scale.name}.")
        ]
        for name, recovery in zip(self.names, self.recoveries, strict=True):
            assert recovery is not None
            told.append(_describe_recovery(name, recovery, self.scale))
        if self.largest_difference is not None:
            told.append(self.difference_sentence)
        return tuple(told)

    @property
    def difference_sentence(self) -> str:
        """Sentence about the largest difference; empty without one."""
        if self.largest_difference is None or self.change_time is None:
            return ""
        errors = ", ".join(
            f"{name} {self.scale.format(error)}"
            for name, error in zip(self.names, self.largest_difference.errors, strict=False)
        )
        delay = self.largest_difference.time - self.change_time
        return f"They differed most {delay:.1f} s after the change: {errors}."


def _summarize_single_robot(learning: Recovery, noun: str) -> str:
    if not learning.was_disturbed:
        return f"The change did not disturb the {noun} that learns."
    if learning.has_recovered:
        return f"The {noun} that learns came back to its target to stay."
    return f"The {noun} that learns did not come back to its target to stay, in this visit."


def _describe_recovery(name: str, recovery: Recovery, scale: ErrorScale) -> str:
    """Describe the effect of the change on one robot."""
    noun = scale.robot_noun
    before, after, worst = map(
        scale.format, (recovery.error_before, recovery.error_after, recovery.worst_error)
    )
    if not recovery.was_disturbed:
        return (
            f"The {name} {noun} stayed on its target: {after} off on average, as against "
            f"{before} before the change, and {worst} at worst."
        )
    told = (
        f"The {name} {noun} was off its target for {recovery.off_target_time:.1f} of the "
        f"{recovery.observed_time:.1f} s after the change, by {worst} at worst"
    )
    left = recovery.observed_time - recovery.last_off_target
    if recovery.has_recovered:
        return f"{told}; it was back to stay after {recovery.last_off_target:.1f} s."
    if left >= MIN_REPORTED_SECONDS:
        return (
            f"{told}; when the visit ended it had been back for {left:.1f} s, "
            f"and {RECOVERED_SECONDS:.0f} s are required."
        )
    return f"{told}, and up to the end of the visit."


def _find_largest_difference(one: ErrorTrack, other: ErrorTrack, change: float) -> LargestDifference:
    """Find the time of the largest difference. Each robot's time counts from its own first command."""
    time = one.time[(one.time >= change) & (one.time <= other.time[-1])]
    first, second = (
        np.interp(time, track.time, compute_rolling_mean(track.time, track.error)) for track in (one, other)
    )
    at = int(np.abs(first - second).argmax())
    return LargestDifference(time=float(time[at]), errors=(float(first[at]), float(second[at])))


def _capitalize_first(words: str) -> str:
    return words[:1].upper() + words[1:]
