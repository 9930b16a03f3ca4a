"""The learned controller as the control loop needs it."""

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Controller(Protocol):
    """What acts in mode `learned`."""

    def act(self, obs: np.ndarray) -> np.ndarray:
        """The next action, `A`, for an observation, `O`."""

    def live(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, contact: bool
    ) -> float:
        """Live a transition; returns its surprise, in nats per channel.

        Args:
            valid: Whether it may be learned from.
            contact: Whether gate or baseline came between controller and robot.
        """
