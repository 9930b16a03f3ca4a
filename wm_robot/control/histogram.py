"""Histogram of durations with fixed memory, however many periods it counts."""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

BIN_WIDTH_MS = 0.1
NUM_BINS = 1000


class Histogram:
    """Durations in bins of 0.1 ms up to 100 ms; longer ones share the last bin."""

    def __init__(self) -> None:
        # An array of the standard library: adding to a NumPy array takes three times as long, several times a period.
        self._bins = array("q", bytes(8 * (NUM_BINS + 1)))
        self._counts = np.frombuffer(self._bins, np.int64)
        self.worst_ms = 0.0
        self.last_ms = 0.0

    def add_duration(self, duration_ms: float) -> None:
        self._bins[min(max(int(duration_ms / BIN_WIDTH_MS), 0), NUM_BINS)] += 1
        self.worst_ms, self.last_ms = max(self.worst_ms, duration_ms), duration_ms

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def compute_percentile(self, q: float) -> float:
        """Return the `q`-th percentile in ms, as the upper edge of its bin; 0 if the histogram is empty."""
        if not self.count:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._counts), np.ceil(q / 100 * self.count)))
        return self.worst_ms if index == NUM_BINS else min((index + 1) * BIN_WIDTH_MS, self.worst_ms)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the filled bins by index, and common percentiles."""
        filled = np.flatnonzero(self._counts)
        return {
            "width_ms": BIN_WIDTH_MS,
            "counts": {str(int(i)): int(self._counts[i]) for i in filled},
            "count": self.count,
            "last_ms": self.last_ms,
            "p50_ms": self.compute_percentile(50),
            "p99_ms": self.compute_percentile(99),
            "p999_ms": self.compute_percentile(99.9),
            "worst_ms": self.worst_ms,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Histogram":
        """Return the histogram of the values that `to_dict` returned."""
        histogram = cls()
        for index, count in values["counts"].items():
            histogram._bins[int(index)] = count
        histogram.worst_ms, histogram.last_ms = float(values["worst_ms"]), float(values["last_ms"])
        return histogram
