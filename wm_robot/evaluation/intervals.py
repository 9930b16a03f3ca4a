"""Intervals of figures that are means over robots or episodes."""

import numpy as np
from jaxtyping import Float

NUM_DRAWS = 2000
"""Draws of a bootstrap."""


def bootstrap_ratio_interval(
    above: Float[np.ndarray, "N"], below: Float[np.ndarray, "N"]
) -> tuple[float, float]:
    """Compute the 95 % interval of the ratio of two means over the same `N` robots.

    Source: Efron (1979), Ann. Statist. 7(1).
    """
    drawn = np.random.default_rng(0).integers(0, len(above), (NUM_DRAWS, len(above)))
    low, high = np.percentile(above[drawn].mean(1) / below[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)
