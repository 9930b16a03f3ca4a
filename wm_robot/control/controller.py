"""Controller interface: a learned controller as the control loop calls it."""

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Controller(Protocol):
    """Learned controller, which acts in mode `learned`."""

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the next action, `A`, for an observation, `O`."""

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, intervention: bool
    ) -> float:
        """Learn from a transition, and return its surprise, in nats per channel.

        Args:
            valid: Whether the transition may be learned from.
            intervention: Whether gate or fallback controller changed the action: an intervention.
        """
