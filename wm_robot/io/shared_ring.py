"""Shared ring: passes arrays from one process to another through shared memory; neither process ever waits.

One process writes, one reads. A full ring rejects further arrays, and reports that.
"""

from collections.abc import Mapping
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy as np

HEAD = 16
"""Bytes before the slots: number of slots written and number read, each changed by one side alone."""


class Field(NamedTuple):
    """Shape and type of one array in each slot."""

    shape: tuple[int, ...]
    dtype: str


Layout = dict[str, Field]
"""Name → array of a slot."""


def layout_of(arrays: Mapping[str, np.ndarray]) -> Layout:
    """Return the layout of a slot for these arrays."""
    return {name: Field(value.shape, value.dtype.str) for name, value in arrays.items()}


class Ring:
    """Ring of slots with arrays of fixed shapes."""

    def __init__(self, layout: Layout, slots: int, name: str | None = None):
        """Args:
        name: Shared memory of an existing ring; None: make a new ring, which this side removes at the end.
        """
        self.layout, self.slots = layout, slots
        each = sum(_bytes(field) for field in layout.values())
        size = HEAD + slots * each
        self._memory = SharedMemory(name, create=name is None, size=size)
        self._owner = name is None
        self._counts = np.ndarray(2, np.int64, self._memory.buf)
        if self._owner:
            self._counts[:] = 0
        self._slots = [self._views(HEAD + slot * each) for slot in range(slots)]

    @property
    def name(self) -> str:
        return self._memory.name

    def put(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Copy arrays into the next slot; False if none is free."""
        written, read = (int(count) for count in self._counts)
        if written - read >= self.slots:
            return False
        for name, place in self._slots[written % self.slots].items():
            place[...] = arrays[name]
        # Last, since the reader reads the count first.
        self._counts[0] = written + 1
        return True

    def take(self) -> dict[str, np.ndarray] | None:
        """Return a copy of the oldest slot that was not read yet; None if there is none."""
        written, read = (int(count) for count in self._counts)
        if written == read:
            return None
        taken = {name: place.copy() for name, place in self._slots[read % self.slots].items()}
        self._counts[1] = read + 1
        return taken

    def close(self) -> None:
        """Release the memory; the side that made the ring removes it."""
        self._slots, self._counts = [], np.zeros(2, np.int64)
        self._memory.close()
        if self._owner:
            self._memory.unlink()

    def _views(self, offset: int) -> dict[str, np.ndarray]:
        views = {}
        for name, field in self.layout.items():
            views[name] = np.ndarray(field.shape, field.dtype, self._memory.buf, offset)
            offset += _bytes(field)
        return views


def _bytes(field: Field) -> int:
    """Return the size of an array, rounded up so that the next one is aligned."""
    exact = int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize
    return -(-exact // 8) * 8
