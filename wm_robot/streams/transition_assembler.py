"""Transition assembler: pairs observations and applied commands of two streams to transitions."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from wm_robot.streams.rejection import Refusal, Refusals, check_time

AFTER_CONTACT = 10
"""Steps after a safety intervention that are not learned from, including its own: gate or fallback controller changed
the action, and the next steps depend on that too."""
KEPT = 8
"""Largest number of applied commands that wait for their observation."""


@dataclass(frozen=True, kw_only=True)
class Lived:
    """Transition of the stream, with its stamp and validity."""

    stamp: int
    """Stamp of the next observation, in ns."""
    obs: np.ndarray
    applied: np.ndarray
    next_obs: np.ndarray
    valid: bool
    """False: count it, advance the context, and learn nothing from it."""
    cause: str = ""
    """Why it is not valid, as `UnusableTransitions` counts it; empty if it is valid."""
    missed: int = 0
    """Number of its periods without an observation."""
    contact: bool = False
    """Whether a safety intervention changed the action."""


@dataclass(frozen=True)
class _Sensed:
    stamp: int
    obs: np.ndarray


class Pairing:
    """Transition assembler: pairs each observation with the command before it, by stamp and not by order of arrival.

    A transition is valid if it spans one control period and its applied command is known.
    """

    def __init__(self, *, period: float, max_age: float, max_gap: float = 1.5):
        """Args:
        period: Control period, in s.
        max_age: Largest age of an observation on arrival, in s.
        max_gap: Largest factor by which a transition may be longer or shorter than a period.
        """
        self.refusals = Refusals()
        self._max_age, self._period = round(max_age * 1e9), period * 1e9
        self._step = round(period * 1e9 / max_gap), round(period * 1e9 * max_gap)
        self._newest: _Sensed | None = None
        # Two: a transition is overdue once the next exists. More are dropped only before the initial state exists.
        self._open: deque[tuple[_Sensed, _Sensed]] = deque(maxlen=2)
        self._applied: dict[int, np.ndarray] = {}
        self._last = 0

    @property
    def applied(self) -> np.ndarray | None:
        """Command that was last reported as applied, `A`."""
        return next(reversed(self._applied.values()), None)

    def applied_at(self, stamp: int) -> np.ndarray | None:
        """Return the command in force up to `stamp`, `A`; None if it was not reported recently."""
        return self._applied.get(stamp)

    def forget(self) -> None:
        """Reset, as after a pause: the next observation starts a new sequence."""
        self._newest = None
        self._open.clear()
        self._applied.clear()

    def untimely(self, stamp: int, now: int) -> Refusal | None:
        """Return why an observation of that stamp is rejected, and count it; None if it is not. All in ns."""
        refusal = check_time(stamp, now, self._last, self._max_age)
        if refusal:
            self.refusals.add(refusal)
        return refusal

    def sense(self, stamp: int, now: int, obs: np.ndarray) -> Refusal | None:
        """Add an observation. If it is rejected, return the reason and change nothing.

        Args:
            stamp: Time of the measurement, in ns.
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
        """Add the command that was in force up to `stamp`, in ns."""
        # In order of arrival and not of stamps: a clock may be set back.
        self._applied.pop(stamp, None)
        self._applied[stamp] = action
        while len(self._applied) > KEPT:
            del self._applied[next(iter(self._applied))]

    @property
    def overdue(self) -> bool:
        """Whether a transition still waits for its command although the next one has started."""
        return len(self._open) > 1

    def take(self) -> Lived | None:
        """Return the oldest transition whose command has arrived or is overdue; None if there is none."""
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
