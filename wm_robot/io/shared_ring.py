"""Arrays from one process to another, through shared memory that neither ever waits for.

One writes, one reads. A ring that is full takes nothing, and says so.
"""

from collections.abc import Mapping
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy as np

HEAD = 16
"""Bytes before the slots: how many were written and how many read, each changed by one side alone."""


class Field(NamedTuple):
    """An array of each slot."""

    shape: tuple[int, ...]
    dtype: str


Layout = dict[str, Field]
"""Arrays of a slot by name."""


def layout_of(arrays: Mapping[str, np.ndarray]) -> Layout:
    """That in which these fit."""
    return {name: Field(value.shape, value.dtype.str) for name, value in arrays.items()}


class Ring:
    """A few slots of arrays of fixed shapes."""

    def __init__(self, layout: Layout, slots: int, name: str | None = None):
        """Args:
        name: Of a ring that is there; without one, a new ring is made, and is this side's to remove.
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
        # Last: who reads looks at the count first.
        self._counts[0] = written + 1
        return True

    def take(self) -> dict[str, np.ndarray] | None:
        """Arrays of the oldest slot that was not taken yet; None if there is none."""
        written, read = (int(count) for count in self._counts)
        if written == read:
            return None
        taken = {name: place.copy() for name, place in self._slots[read % self.slots].items()}
        self._counts[1] = read + 1
        return taken

    def close(self) -> None:
        """Let go of the memory; whoever made the ring removes it."""
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
    """Size of an array, rounded up so that the next one is aligned."""
    exact = int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize
    return -(-exact // 8) * 8
