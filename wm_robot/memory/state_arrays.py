"""A lifetime state as arrays: as it is saved, and as a process without torch updates it."""

import numpy as np
from jaxtyping import Bool

from wm_robot.memory.lifetime_state import LifetimeState

Arrays = dict[str, np.ndarray]
"""Arrays by name."""
ArrayState = LifetimeState[np.ndarray]


def beside(chosen: Bool[np.ndarray, "*B"], like: np.ndarray) -> np.ndarray:
    """A choice of rows with the axes of what is chosen from."""
    return chosen.reshape(*chosen.shape, *[1] * (like.ndim - chosen.ndim))
