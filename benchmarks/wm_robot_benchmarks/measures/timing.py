"""Timing: compares run times of functions on a machine with other load."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_robot.progress import Progress, unreported


@dataclass(frozen=True, kw_only=True)
class Times:
    """Run times of one function, in ms, by repetition."""

    core: np.ndarray
    """Time that its thread had a core: the run time without other load on that core."""
    wall: np.ndarray
    """Wall-clock time."""

    @classmethod
    def of(cls, seconds: Sequence[tuple[float, float]] | np.ndarray) -> "Times":
        """Args:
        seconds: Core and wall time, as returned by `Clock`.
        """
        core, wall = 1000 * np.asarray(seconds).T
        return cls(core=core, wall=wall)

    @property
    def median(self) -> float:
        """Median of the core time."""
        return float(np.median(self.core))


class Clock:
    """Clock of core and wall time of this thread since its construction."""

    def __init__(self) -> None:
        self._wall, self._core = time.perf_counter(), time.thread_time()

    def __call__(self) -> tuple[float, float]:
        """Return core and wall time, in s."""
        return time.thread_time() - self._core, time.perf_counter() - self._wall


def side_by_side(
    functions: Mapping[str, Callable[[], object]], repetitions: int, progress: Progress = unreported
) -> dict[str, Times]:
    """Time single-threaded functions in turn, each with a warm-up call before."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for number in range(repetitions):
        for name, function in functions.items():
            function()
            clock = Clock()
            function()
            found[name].append(clock())
        progress(number + 1, repetitions)
    return {name: Times.of(seconds) for name, seconds in found.items()}
