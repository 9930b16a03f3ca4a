"""A lifetime state as arrays: as it is saved, and as a process without torch lives it."""

import numpy as np
from jaxtyping import Bool

Arrays = dict[str, np.ndarray]
"""Flat, fixed shapes, batch first, float32 (counters int64). `lifetime.memory.State` is the same as tensors."""


def beside(chosen: Bool[np.ndarray, "*B"], like: np.ndarray) -> np.ndarray:
    """A choice of rows with the axes of what is chosen from."""
    return chosen.reshape(*chosen.shape, *[1] * (like.ndim - chosen.ndim))
