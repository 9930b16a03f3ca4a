"""Idle tasks: deferrable work that runs between two control periods, if its recent run time fits."""

import time
from collections.abc import Callable

DECAY = 0.98
"""Factor by which the estimate decays at each run or deferral."""
SAFETY_FACTOR = 1.5
"""Safety factor: a task runs only if this multiple of its estimated run time is left."""
ALWAYS_RUN_BELOW = 1e-4
"""Estimated run time below which a task always runs, in s. Deferrals reduce the estimate, so each task runs."""


class _RunTimeEstimate:
    """Estimate of a run time: the longest recent one, in s, with decay."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def add_run(self, seconds: float) -> None:
        """Add a measured run time, in s."""
        self.seconds = max(DECAY * self.seconds, seconds)

    def reduce_estimate(self) -> None:
        """Reduce the estimate after a deferral, so that a task which took long once runs again."""
        self.seconds *= DECAY


class IdleTask:
    """Deferrable work that runs if its estimated run time fits into the rest of a period."""

    def __init__(self, work: Callable[[], object], *, clock: Callable[[], float] = time.monotonic):
        """Args:
        clock: Monotonic clock, in s.
        """
        self.is_requested = False
        """Whether the task is requested."""
        self.num_runs = self.num_deferred = 0
        """Number of runs, and of deferrals."""
        self.longest_run = 0.0
        """Longest run time, in s."""
        self._work, self._clock, self._run_time = work, clock, _RunTimeEstimate()

    def request_run(self) -> None:
        """Request one run."""
        self.is_requested = True

    def try_run(self, time_left: float) -> bool:
        """Run the task if it is requested and fits.

        Args:
            time_left: Idle time, in s.

        Returns:
            Whether the task ran.
        """
        if not self.is_requested:
            return False
        takes = self._run_time.seconds
        if time_left < SAFETY_FACTOR * takes and takes > ALWAYS_RUN_BELOW:
            self.num_deferred += 1
            self._run_time.reduce_estimate()
            return False
        self.is_requested = False
        began = self._clock()
        self._work()
        took = self._clock() - began
        self._run_time.add_run(took)
        self.longest_run = max(self.longest_run, took)
        self.num_runs += 1
        return True
