"""How long functions take beside each other on a machine that does other work."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_robot.progress import Progress, unreported


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of one function, in ms, by repetition."""

    core: np.ndarray
    """Time that its thread had a core: what it takes where nobody else wants that core."""
    wall: np.ndarray
    """Time that went by."""

    @classmethod
    def of(cls, seconds: Sequence[tuple[float, float]] | np.ndarray) -> "Times":
        """Args:
        seconds: Of core and wall, as a `Clock` says.
        """
        core, wall = 1000 * np.asarray(seconds).T
        return cls(core=core, wall=wall)

    @property
    def median(self) -> float:
        """Of the core."""
        return float(np.median(self.core))


class Clock:
    """Time of this thread since it was made."""

    def __init__(self) -> None:
        self._wall, self._core = time.perf_counter(), time.thread_time()

    def __call__(self) -> tuple[float, float]:
        """Seconds of core and wall."""
        return time.thread_time() - self._core, time.perf_counter() - self._wall


def side_by_side(
    functions: Mapping[str, Callable[[], object]], repetitions: int, progress: Progress = unreported
) -> dict[str, Times]:
    """Times of functions of one thread, taking turns, each warmed up right before it is timed."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for number in range(repetitions):
        for name, function in functions.items():
            function()
            clock = Clock()
            function()
            found[name].append(clock())
        progress(number + 1, repetitions)
    return {name: Times.of(seconds) for name, seconds in found.items()}
