"""Shared ring: passes arrays from one process to another through shared memory; neither process ever waits.

One process writes, one reads. A full ring rejects further arrays, and reports that.
"""

from collections.abc import Mapping
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy as np

HEADER_BYTES = 16
"""Bytes before the slots: number of slots written and number read, each changed by one side alone."""


class ArrayField(NamedTuple):
    """Shape and type of one array in each slot."""

    shape: tuple[int, ...]
    dtype: str


SlotLayout = dict[str, ArrayField]
"""Name → array of a slot."""


def get_layout(arrays: Mapping[str, np.ndarray]) -> SlotLayout:
    """Return the layout of a slot for these arrays."""
    return {name: ArrayField(value.shape, value.dtype.str) for name, value in arrays.items()}


class SharedRing:
    """Ring of slots with arrays of fixed shapes."""

    def __init__(self, layout: SlotLayout, num_slots: int, name: str | None = None):
        """Args:
        name: Shared memory of an existing ring; None: make a new ring, which this side removes at the end.
        """
        self.layout, self.num_slots = layout, num_slots
        each = sum(_compute_aligned_size(field) for field in layout.values())
        size = HEADER_BYTES + num_slots * each
        self._memory = SharedMemory(name, create=name is None, size=size)
        self._owner = name is None
        self._counts = np.ndarray(2, np.int64, self._memory.buf)
        if self._owner:
            self._counts[:] = 0
        self._slots = [self._map_slot(HEADER_BYTES + slot * each) for slot in range(num_slots)]

    @property
    def name(self) -> str:
        return self._memory.name

    def try_write(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Copy arrays into the next slot; False if none is free."""
        written, read = (int(count) for count in self._counts)
        if written - read >= self.num_slots:
            return False
        for name, place in self._slots[written % self.num_slots].items():
            place[...] = arrays[name]
        # Last, since the reader reads the count first.
        self._counts[0] = written + 1
        return True

    def read_next(self) -> dict[str, np.ndarray] | None:
        """Return a copy of the oldest slot that was not read yet; None if there is none."""
        written, read = (int(count) for count in self._counts)
        if written == read:
            return None
        taken = {name: place.copy() for name, place in self._slots[read % self.num_slots].items()}
        self._counts[1] = read + 1
        return taken

    def close(self) -> None:
        """Release the memory; the side that made the ring removes it."""
        self._slots, self._counts = [], np.zeros(2, np.int64)
        self._memory.close()
        if self._owner:
            self._memory.unlink()

    def _map_slot(self, offset: int) -> dict[str, np.ndarray]:
        views = {}
        for name, field in self.layout.items():
            views[name] = np.ndarray(field.shape, field.dtype, self._memory.buf, offset)
            offset += _compute_aligned_size(field)
        return views


def _compute_aligned_size(field: ArrayField) -> int:
    """Return the size of an array, rounded up so that the next one is aligned."""
    exact = int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize
    return -(-exact // 8) * 8
