"""Timing: compares run times of functions on a machine with other load."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_robot.progress import Progress, ignore_progress


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """Run times of one function, in ms, by repetition."""

    core: np.ndarray
    """Time that its thread had a core: the run time without other load on that core."""
    wall: np.ndarray
    """Wall-clock time."""

    @classmethod
    def from_seconds(cls, seconds: Sequence[tuple[float, float]] | np.ndarray) -> "RunTimes":
        """Args:
        seconds: Core and wall time, as returned by `Clock`.
        """
        core, wall = 1000 * np.asarray(seconds).T
        return cls(core=core, wall=wall)

    @property
    def median(self) -> float:
        """Median of the core time."""
        return float(np.median(self.core))


class ThreadClock:
    """Clock of core and wall time of this thread since its construction."""

    def __init__(self) -> None:
        self._wall, self._core = time.perf_counter(), time.thread_time()

    def __call__(self) -> tuple[float, float]:
        """Return core and wall time, in s."""
        return time.thread_time() - self._core, time.perf_counter() - self._wall


def time_in_turn(
    functions: Mapping[str, Callable[[], object]], repetitions: int, progress: Progress = ignore_progress
) -> dict[str, RunTimes]:
    """Time single-threaded functions in turn, each with a warm-up call before."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for number in range(repetitions):
        for name, function in functions.items():
            function()
            clock = ThreadClock()
            function()
            found[name].append(clock())
        progress(number + 1, repetitions)
    return {name: RunTimes.from_seconds(seconds) for name, seconds in found.items()}
