"""What lives on arrays: a model that torch runs, its graphs without torch, or what is built around either."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from wm_robot.memory.state_arrays import Arrays


class Expected(NamedTuple):
    """What is expected, in sensor units."""

    mean: Float[np.ndarray, "*B O"]
    log_variance: Float[np.ndarray, "*B O"]


@runtime_checkable
class Writes(Protocol):
    """What lives step by step."""

    def write(
        self,
        state: Arrays,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        valid: np.ndarray,
        truth: np.ndarray | None = None,
    ) -> tuple[Expected, Arrays]:
        """See `WorldModel.write`. Nothing that is given is changed, and what is returned is the caller's.

        Args:
            truth: True physics, `B P`, for the oracle: everyone else is on its own, and does not listen.
        """


@runtime_checkable
class Lives(Writes, Protocol):
    """What lives, and can say what it expects."""

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> Arrays:
        """The state of robots that have lived nothing, each with its action in force, `B A`.

        Args:
            truth: As for `write`.
        """

    def predict(self, state: Arrays, obs: np.ndarray, action: np.ndarray) -> Expected:
        """See `WorldModel.predict`; for any number of rows."""
