"""Transition assembler: pairs observations and applied commands of two streams to transitions."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from wm_robot.streams.rejection import RejectionCounters, RejectionReason, check_stamp

STEPS_AFTER_INTERVENTION = 10
"""Steps after a safety intervention that are not learned from, including its own: gate or fallback controller changed
the action, and the next steps depend on that too."""
MAX_PENDING_COMMANDS = 8
"""Largest number of applied commands that wait for their observation."""

MAX_GAP = 1.5
"""Largest factor by which a valid transition may be longer or shorter than a control period."""


@dataclass(frozen=True, kw_only=True)
class StampedTransition:
    """Transition of the stream, with its stamp and validity."""

    stamp: int
    """Stamp of the next observation, in ns."""
    obs: np.ndarray
    applied: np.ndarray
    next_obs: np.ndarray
    start: int = 0
    """Stamp of the observation before, in ns."""
    valid: bool
    """False: count it, advance the context, and learn nothing from it."""
    cause: str = ""
    """Why it is not valid, as `UnusableTransitions` counts it; empty if it is valid."""
    num_missed: int = 0
    """Number of its periods without an observation."""
    is_new: np.ndarray | None = None
    """Whether each channel of `next_obs` is a new reading, bool `O`; None: all are."""
    intervention: bool = False
    """Whether a safety intervention changed the action."""
    is_unpaired: bool = False
    """Whether its own action had not arrived, and that which had arrived last is in its place."""


@dataclass(frozen=True)
class _StampedObservation:
    stamp: int
    obs: np.ndarray
    is_new: np.ndarray | None


class TransitionAssembler:
    """Transition assembler: pairs each observation with the command before it, by stamp and not by order of arrival.

    A transition is valid if it spans one control period and its applied command is known.
    """

    def __init__(self, *, period: float, max_age: float, max_gap: float = MAX_GAP):
        """Args:
        period: Control period, in s.
        max_age: Largest age of an observation on arrival, in s.
        max_gap: Largest factor by which a transition may be longer or shorter than a period.
        """
        self.rejections = RejectionCounters()
        self._max_age, self._period = round(max_age * 1e9), period * 1e9
        self._step = round(period * 1e9 / max_gap), round(period * 1e9 * max_gap)
        self._newest: _StampedObservation | None = None
        # Two: a transition is overdue once the next exists. More are dropped only before the initial state exists.
        self._pending: deque[tuple[_StampedObservation, _StampedObservation]] = deque(maxlen=2)
        self._applied: dict[int, np.ndarray] = {}
        self._last_stamp = 0

    @property
    def last_applied(self) -> np.ndarray | None:
        """Command that was last reported as applied, `A`."""
        return next(reversed(self._applied.values()), None)

    def find_applied(self, stamp: int) -> np.ndarray | None:
        """Return the command in force up to `stamp`, `A`; None if it was not reported recently."""
        return self._applied.get(stamp)

    def reset(self) -> None:
        """Reset, as after a pause: the next observation starts a new sequence."""
        self._newest = None
        self._pending.clear()
        self._applied.clear()

    def reject_untimely(self, stamp: int, now: int) -> RejectionReason | None:
        """Return why an observation of that stamp is rejected, and count it; None if it is not. All in ns."""
        refusal = check_stamp(stamp, now, self._last_stamp, self._max_age)
        if refusal:
            self.rejections.count_rejection(refusal)
        return refusal

    def add_observation(
        self, stamp: int, now: int, obs: np.ndarray, is_new: np.ndarray | None = None
    ) -> RejectionReason | None:
        """Add an observation. If it is rejected, return the reason and change nothing.

        Args:
            stamp: Time of the measurement, in ns.
            now: In ns on the same clock.
            is_new: Whether each channel is a new reading, bool `O`; None: all are.
        """
        refusal = self.reject_untimely(stamp, now)
        if refusal:
            return refusal
        sensed = _StampedObservation(stamp, obs, is_new)
        if self._newest:
            self._pending.append((self._newest, sensed))
        self._newest, self._last_stamp = sensed, stamp
        return None

    def add_applied(self, stamp: int, action: np.ndarray) -> None:
        """Add the command that was in force up to `stamp`, in ns."""
        # In order of arrival and not of stamps: a clock may be set back.
        self._applied.pop(stamp, None)
        self._applied[stamp] = action
        while len(self._applied) > MAX_PENDING_COMMANDS:
            del self._applied[next(iter(self._applied))]

    @property
    def is_overdue(self) -> bool:
        """Whether a transition still waits for its command although the next one has started."""
        return len(self._pending) > 1

    def take_transition(self) -> StampedTransition | None:
        """Return the oldest transition whose command has arrived or is overdue; None if there is none."""
        while self._pending:
            before, after = self._pending[0]
            applied = self._applied.get(after.stamp)
            if applied is None and not self.is_overdue:
                return None
            self._pending.popleft()
            shortest, longest = self._step
            span, cause = after.stamp - before.stamp, ""
            if applied is None:
                self.rejections.count_rejection(RejectionReason.UNPAIRED)
                cause = "unpaired"
            if not shortest <= span <= longest:
                self.rejections.count_rejection(RejectionReason.GAP)
                cause = "gap" if span > longest else "early"
            if self.last_applied is not None:
                return StampedTransition(
                    stamp=after.stamp,
                    start=before.stamp,
                    obs=before.obs,
                    applied=self.last_applied if applied is None else applied,
                    next_obs=after.obs,
                    is_new=after.is_new,
                    valid=not cause,
                    cause=cause,
                    is_unpaired=applied is None,
                    num_missed=max(0, round(span / self._period) - 1),
                )
        return None
