"""Idle tasks: deferrable work that runs between two control periods, if its recent run time fits."""

import time
from collections.abc import Callable

FADES = 0.98
"""Factor by which the estimate decays at each run or deferral."""
ROOM = 1.5
"""Safety factor: a task runs only if this multiple of its estimated run time is left."""
LEAST = 1e-4
"""Estimated run time below which a task always runs, in s. Deferrals reduce the estimate, so each task runs."""


class _Takes:
    """Estimate of a run time: the longest recent one, in s, with decay."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Add a measured run time, in s."""
        self.seconds = max(FADES * self.seconds, seconds)

    def fade(self) -> None:
        """Reduce the estimate after a deferral, so that a task which took long once runs again."""
        self.seconds *= FADES


class Chore:
    """Deferrable work that runs if its estimated run time fits into the rest of a period."""

    def __init__(self, work: Callable[[], object], *, clock: Callable[[], float] = time.monotonic):
        """Args:
        clock: Monotonic clock, in s.
        """
        self.asked = False
        """Whether the task is requested."""
        self.done = self.put_off = 0
        """Number of runs, and of deferrals."""
        self.longest = 0.0
        """Longest run time, in s."""
        self._work, self._clock, self._takes = work, clock, _Takes()

    def ask(self) -> None:
        """Request one run."""
        self.asked = True

    def chance(self, left: float) -> bool:
        """Run the task if it is requested and fits.

        Args:
            time_left: Idle time, in s.

        Returns:
            Whether the task ran.
        """
        if not self.asked:
            return False
        takes = self._takes.seconds
        if left < ROOM * takes and takes > LEAST:
            self.put_off += 1
            self._takes.fade()
            return False
        self.asked = False
        began = self._clock()
        self._work()
        took = self._clock() - began
        self._takes.add(took)
        self.longest = max(self.longest, took)
        self.done += 1
        return True
