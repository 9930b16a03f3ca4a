"""Array types of a lifetime state, for saved states and for processes without torch."""

import numpy as np
from jaxtyping import Bool

from wm_robot.memory.lifetime_state import LifetimeState

Arrays = dict[str, np.ndarray]
"""Arrays by name."""
ArrayState = LifetimeState[np.ndarray]


def expand_array_like(row_mask: Bool[np.ndarray, "*B"], like: np.ndarray) -> np.ndarray:
    """Add axes to a row mask until it has the rank of `like`."""
    return row_mask.reshape(*row_mask.shape, *[1] * (like.ndim - row_mask.ndim))
