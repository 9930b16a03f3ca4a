"""Relative error: the ratio of two errors over the same robots, and its interval over robots and trainings."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.intervals import NUM_DRAWS


class RelativeError(NamedTuple):
    """Ratio of mean errors, geometric mean over rows, with its 95 % interval."""

    ratio: Float[np.ndarray, "P"]
    low: Float[np.ndarray, "P"]
    high: Float[np.ndarray, "P"]

    def describe(self, at: int) -> str:
        """Return the ratio and the interval at one point."""
        return f"{self.ratio[at]:.2f} ({self.low[at]:.2f} to {self.high[at]:.2f})"


def compute_relative_error(
    own: Sequence[Float[np.ndarray, "S N P"]], other: Sequence[Float[np.ndarray, "S N P"]]
) -> RelativeError:
    """Compute the ratio of two errors of the same trainings `S` on the same robots `N`, for each row of robots.

    The bootstrap draws robots within each row, and trainings where there are several. A draw is the same for both
    errors.

    Source: Efron (1979), Ann. Statist. 7(1).
    """
    rng = np.random.default_rng(0)
    num_trainings = own[0].shape[0]
    trainings = rng.multinomial(num_trainings, np.full(num_trainings, 1 / num_trainings), NUM_DRAWS)
    drawn = []
    for above, below in zip(own, other, strict=True):
        count = above.shape[1]
        robots = rng.multinomial(count, np.full(count, 1 / count), NUM_DRAWS)
        means = (np.einsum("ds,dn,snp->dp", trainings, robots, x, optimize=True) for x in (above, below))
        drawn.append(np.log(np.divide(*means)))
    low, high = np.exp(np.percentile(np.mean(drawn, 0), [2.5, 97.5], axis=0))
    ratios = [above.mean((0, 1)) / below.mean((0, 1)) for above, below in zip(own, other, strict=True)]
    return RelativeError(np.exp(np.mean(np.log(ratios), 0)), low, high)
