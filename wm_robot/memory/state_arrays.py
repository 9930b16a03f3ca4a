"""Array types of a lifetime state, for saved states and for processes without torch."""

import numpy as np
from jaxtyping import Bool

from wm_robot.memory.lifetime_state import LifetimeState

Arrays = dict[str, np.ndarray]
"""Arrays by name."""
ArrayState = LifetimeState[np.ndarray]


def beside(chosen: Bool[np.ndarray, "*B"], like: np.ndarray) -> np.ndarray:
    """Add axes to a row mask until it has the rank of `like`."""
    return chosen.reshape(*chosen.shape, *[1] * (like.ndim - chosen.ndim))
