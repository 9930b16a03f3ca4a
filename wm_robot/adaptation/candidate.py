"""What a learner is told, and what it answers: plain values and arrays, for a process without torch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.errors import check_at_least
from wm_robot.memory.lifetime_state import Residual


@dataclass(frozen=True, kw_only=True)
class ConsolidateConfig:
    """How a residual is fitted, and when it is believed."""

    updates: int = 150
    rate: float = 1e-2
    """Of Adam; falls to zero over the second half."""
    moments: int = 64
    """In an update; half of them of the latest chapters."""
    horizon: int = 8
    """Steps imagined from each."""
    every: int = 4
    """Steps between moments of a chapter."""
    held_out: int = 4
    """Latest chapters that are not learned from, and decide."""
    anchor: float = 1e-4
    """Weight of the squared size of the residual, in parts of the weights beside it."""
    largest: float = 0.5
    """Size of the residual, in parts of the size of the weights beside it, that it never exceeds."""
    interval: int = 32
    """Chapters from one candidate to the next."""
    margin: float = 0.03
    """Part by which a candidate's error must be below the running one's, and below that of no residual."""

    def __post_init__(self) -> None:
        check_at_least(
            1, self, "updates", "moments", "horizon", "every", "held_out", "interval", part="consolidate"
        )


class Verdict(NamedTuple):
    """Errors on held-out chapters, of each life."""

    candidate: Float[np.ndarray, "B"]
    running: Float[np.ndarray, "B"]
    frozen: Float[np.ndarray, "B"]
    """Without a residual."""
    margin: float = 0.0
    """See `ConsolidateConfig`."""

    @property
    def accepted(self) -> Bool[np.ndarray, "B"]:
        """Whose candidate is better than both."""
        return self.candidate < (1 - self.margin) * np.minimum(self.running, self.frozen)


class Candidate(NamedTuple):
    """A residual that asks to be tried."""

    residual: Residual[np.ndarray]
    verdict: Verdict
    chapter: int
    """The newest that decided on it."""
