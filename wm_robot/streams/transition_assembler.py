"""From two streams, what was sensed and what was applied, to transitions that may be lived."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from wm_robot.streams.rejection import Refusal, Refusals, check_time

AFTER_CONTACT = 10
"""Steps, the one of the contact among them, that are not to be learned from: gate or baseline came between controller
and robot, and what follows is of that too."""
KEPT = 8
"""Applied commands that wait for their observation."""


@dataclass(frozen=True, kw_only=True)
class Lived:
    """One transition of the stream."""

    stamp: int
    """Of the observation that it led to, in ns."""
    obs: np.ndarray
    applied: np.ndarray
    next_obs: np.ndarray
    valid: bool
    """False: count it, move the context on, and learn nothing from it."""
    cause: str = ""
    """Why it is not valid, as `Unlearned` counts it; empty if it is."""
    missed: int = 0
    """Periods in it for which there is no observation."""
    contact: bool = False
    """Whether the safety layer stood between controller and motors."""


@dataclass(frozen=True)
class _Sensed:
    stamp: int
    obs: np.ndarray


class Pairing:
    """Pairs each observation with the command that led to it, by stamp and never by order of arrival.

    A transition is valid if it spans one control period and its applied command is known.
    """

    def __init__(self, *, period: float, max_age: float, max_gap: float = 1.5):
        """Args:
        period: Control period, in s.
        max_age: Oldest observation that is used on arrival, in s.
        max_gap: How many times longer or shorter than a period a transition may be.
        """
        self.refusals = Refusals()
        self._max_age, self._period = round(max_age * 1e9), period * 1e9
        self._step = round(period * 1e9 / max_gap), round(period * 1e9 * max_gap)
        self._newest: _Sensed | None = None
        # Two, since a transition is overdue once the next is there; only before a birth are more left.
        self._open: deque[tuple[_Sensed, _Sensed]] = deque(maxlen=2)
        self._applied: dict[int, np.ndarray] = {}
        self._last = 0

    @property
    def applied(self) -> np.ndarray | None:
        """The command that was last said to have been applied, `A`."""
        return next(reversed(self._applied.values()), None)

    def applied_at(self, stamp: int) -> np.ndarray | None:
        """The command that was in force up to `stamp`, `A`; None if nobody said so lately."""
        return self._applied.get(stamp)

    def forget(self) -> None:
        """Begin again, as after a pause: the next observation continues nothing."""
        self._newest = None
        self._open.clear()
        self._applied.clear()

    def untimely(self, stamp: int, now: int) -> Refusal | None:
        """Why an observation of that stamp is refused, whatever it says; counted. In ns, as `sense` has them."""
        refusal = check_time(stamp, now, self._last, self._max_age)
        if refusal:
            self.refusals.add(refusal)
        return refusal

    def sense(self, stamp: int, now: int, obs: np.ndarray) -> Refusal | None:
        """Take an observation; with a reason it is refused and changes nothing.

        Args:
            stamp: Of the measurement, in ns.
            now: In ns on the same clock.
        """
        refusal = self.untimely(stamp, now)
        if refusal:
            return refusal
        sensed = _Sensed(stamp, obs)
        if self._newest:
            self._open.append((self._newest, sensed))
        self._newest, self._last = sensed, stamp
        return None

    def apply(self, stamp: int, action: np.ndarray) -> None:
        """Take the command that was in force up to `stamp`, in ns."""
        # By arrival and not by stamp: a clock may be set back.
        self._applied.pop(stamp, None)
        self._applied[stamp] = action
        while len(self._applied) > KEPT:
            del self._applied[next(iter(self._applied))]

    @property
    def overdue(self) -> bool:
        """Whether a transition still waits for its command though the next has begun."""
        return len(self._open) > 1

    def take(self) -> Lived | None:
        """The oldest transition whose command is known or overdue."""
        while self._open:
            before, after = self._open[0]
            applied = self._applied.get(after.stamp)
            if applied is None and not self.overdue:
                return None
            self._open.popleft()
            shortest, longest = self._step
            span, cause = after.stamp - before.stamp, ""
            if applied is None:
                self.refusals.add(Refusal.UNPAIRED)
                cause = "unpaired"
            if not shortest <= span <= longest:
                self.refusals.add(Refusal.GAP)
                cause = "gap" if span > longest else "early"
            if self.applied is not None:
                return Lived(
                    stamp=after.stamp,
                    obs=before.obs,
                    applied=self.applied if applied is None else applied,
                    next_obs=after.obs,
                    valid=not cause,
                    cause=cause,
                    missed=max(0, round(span / self._period) - 1),
                )
        return None
