"""Idle time of a control process: how long until the next observation is due, and one rehearsal at its end."""

import math
import time
from collections.abc import Callable

from wm_robot.control.idle_tasks import Ahead


class IdleTime:
    """Time until the next observation is due, of which the last part may go to a rehearsal."""

    def __init__(self, period: float, *, clock: Callable[[], float] = time.monotonic):
        """Args:
        period: Control period, in s.
        clock: In s.
        """
        self._period, self._clock = period, clock
        self._due = 0.0
        self._rehearsal = Ahead()

    @property
    def rehearsed(self) -> int:
        """Number of rehearsals so far."""
        return self._rehearsal.done

    def expect(self, due: float, *, rehearse: bool = False) -> None:
        """Expect the next observation.

        Args:
            due: Earliest moment at which it may arrive, in s of the clock.
            rehearse: Whether a rehearsal is to end right before that moment.
        """
        self._due = due
        if rehearse:
            self._rehearsal.expect(due)

    def left(self) -> float:
        """Time in which nothing is due, in s; infinite where the next observation is late by a whole period."""
        now = self._clock()
        left = self._due - now
        if left < -self._period:
            return math.inf
        return min(left, self._rehearsal.left(now))

    def left_before_rehearsal(self) -> float:
        """Time until a rehearsal is due, in s; infinite without one."""
        return self._rehearsal.left(self._clock())

    def take_rehearsal(self) -> bool:
        """Whether a rehearsal is due now; each is taken once."""
        return self._rehearsal.begins(self._clock())

    def rehearse(self, work: Callable[[], object]) -> None:
        """Do a rehearsal that was taken."""
        began = self._clock()
        work()
        self._rehearsal.add(self._clock() - began)
