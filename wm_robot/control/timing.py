"""How long things take: kept as a histogram, so that an hour costs no more than a minute, and to judge what fits."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

WIDTH_MS = 0.1
BINS = 1000
USUAL = 64
"""Steps over which is averaged how long a whole one takes."""
FADES = 0.98
"""What a long time counts for, from one time to the next."""
ROOM = 1.5
"""How often what can wait, as long as it lately took, must fit in the time that is left."""
LEAST = 1e-4
"""What takes less, in s, or was put off until it counts for less, is done whatever is left."""


class Histogram:
    """Durations in bins of 0.1 ms up to 100 ms; longer ones share the last bin."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS + 1, np.int64)
        self.worst_ms = 0.0
        self.last_ms = 0.0

    def add(self, ms: float) -> None:
        self._counts[min(max(int(ms / WIDTH_MS), 0), BINS)] += 1
        self.worst_ms, self.last_ms = max(self.worst_ms, ms), ms

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def percentile(self, q: float) -> float:
        """The duration in ms that `q` per cent stay within, to the upper edge of its bin; 0 without any."""
        if not self.count:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._counts), np.ceil(q / 100 * self.count)))
        return self.worst_ms if index == BINS else min((index + 1) * WIDTH_MS, self.worst_ms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the filled bins by index, and what people ask first."""
        filled = np.flatnonzero(self._counts)
        return {
            "width_ms": WIDTH_MS,
            "counts": {str(int(i)): int(self._counts[i]) for i in filled},
            "count": self.count,
            "last_ms": self.last_ms,
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "p999_ms": self.percentile(99.9),
            "worst_ms": self.worst_ms,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Histogram":
        """Inverse of `to_dict`."""
        histogram = cls()
        for index, count in values["counts"].items():
            histogram._counts[int(index)] = count
        histogram.worst_ms, histogram.last_ms = float(values["worst_ms"]), float(values["last_ms"])
        return histogram


class Slack:
    """Whether a whole step still fits into what is left of a period, by what whole steps took lately."""

    def __init__(self) -> None:
        self.hurried = 0
        """Steps of which something was left out."""
        self._usual_ms = 0.0

    def lacks(self, left_ms: float) -> bool:
        """Whether what can be left out must be."""
        return self._usual_ms > left_ms

    def add(self, ms: float, *, hurried: bool) -> None:
        """A step was lived."""
        if hurried:
            self.hurried += 1
        # A hurried one says nothing of whole ones; without forgetting, one slow spell would have it hurry for ever.
        self._usual_ms += ((0.0 if hurried else ms) - self._usual_ms) / USUAL


class _Takes:
    """How long something takes: the longest lately, in s."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """It took so long."""
        self.seconds = max(FADES * self.seconds, seconds)

    def fade(self) -> None:
        """It did not fit: what took long once is tried again, some time."""
        self.seconds *= FADES


class Chore:
    """Work that can wait, done where it fits into what is left of a period, by what it took lately."""

    def __init__(self, work: Callable[[], object], *, clock: Callable[[], float] = time.monotonic):
        """Args:
        clock: In s; nobody may set it.
        """
        self.asked = False
        """Whether it is to be done."""
        self.done = self.put_off = 0
        self.longest = 0.0
        """That it took, in s."""
        self._work, self._clock, self._takes = work, clock, _Takes()

    def ask(self) -> None:
        """It is to be done, once."""
        self.asked = True

    def chance(self, left: float) -> bool:
        """Do it, if it is to be done and fits.

        Args:
            left: Time that nobody else needs, in s.

        Returns:
            Whether it was done.
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
