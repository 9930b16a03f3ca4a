"""Residual candidate: config, candidate and evaluation as plain values and arrays, without torch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.errors import check_at_least
from wm_robot.memory.lifetime_state import Residual


@dataclass(frozen=True, kw_only=True)
class ResidualFitConfig:
    """Config of the residual fit and of the acceptance of a candidate."""

    updates: int = 150
    learning_rate: float = 1e-2
    """Learning rate of Adam; decays to zero over the second half."""
    batch_size: int = 64
    """Start moments per gradient step; half of them from the recent segments."""
    horizon: int = 8
    """Imagined steps from each moment."""
    stride: int = 4
    """Steps between moments of a segment."""
    num_held_out: int = 4
    """Number of recent segments that only evaluate a candidate."""
    anchor_weight: float = 1e-4
    """Weight of the squared residual norm, relative to the norm of the corrected weights."""
    max_relative_norm: float = 0.5
    """Upper bound of the residual norm, relative to the norm of the corrected weights."""
    segment_interval: int = 32
    """Segments between two candidates."""
    margin: float = 0.03
    """Share by which a candidate's error must be below that of the current residual, and below that of none."""

    def __post_init__(self) -> None:
        check_at_least(
            1,
            self,
            "updates",
            "batch_size",
            "horizon",
            "stride",
            "num_held_out",
            "segment_interval",
            section="residual_fit",
        )


class CandidateErrors(NamedTuple):
    """Errors on held-out segments, for each row: of the candidate, of the current residual, and of none."""

    candidate: Float[np.ndarray, "B"]
    current: Float[np.ndarray, "B"]
    without_residual: Float[np.ndarray, "B"]
    """Error without a residual."""
    margin: float = 0.0
    """See `ResidualFitConfig`."""

    @property
    def is_better(self) -> Bool[np.ndarray, "B"]:
        """Rows whose candidate is better than both alternatives."""
        return self.candidate < (1 - self.margin) * np.minimum(self.current, self.without_residual)


class ResidualCandidate(NamedTuple):
    """Residual proposed by a learner, with its errors."""

    residual: Residual[np.ndarray]
    errors: CandidateErrors
    segment_number: int
    """Number of the newest segment used in its evaluation."""
