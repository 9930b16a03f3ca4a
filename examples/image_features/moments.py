"""Image moments: where something of one color is in an image."""

import numpy as np
from jaxtyping import Float, UInt8

LEAST_REDNESS = 60.0
"""Redness below which a pixel does not count: shadows and reflections."""
LEAST_AREA = 4.0
"""Fewest fully red pixels of a ball in view."""
FULL_REDNESS = 255.0 - LEAST_REDNESS


def compute_redness(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """Return by how much each pixel is more red than anything else, 0 to `FULL_REDNESS`."""
    color = image.astype(np.float64)
    redness: np.ndarray = np.maximum(color[..., 0] - color[..., 1:].max(-1) - LEAST_REDNESS, 0.0)
    return redness


def compute_center(weight: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "2"]:
    """Compute the center of the weight in an image: the first moments over the zeroth.

    Returns:
        From left to right and from top to bottom, each 0 to 1. NaN where there is less than `LEAST_AREA`: then the
        camera sees nothing, and the robot is told so.
    """
    total = weight.sum()
    if total < LEAST_AREA * FULL_REDNESS:
        return np.full(2, np.nan)
    height, width = weight.shape
    across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return np.array([weight.sum(0) @ across, weight.sum(1) @ down]) / total
