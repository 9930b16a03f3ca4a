"""What a robot's agent refuses to live: answers that are no numbers."""

import numpy as np

from wm_robot.adaptation.context_bank import known
from wm_robot.errors import InferenceError
from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.backend import Expected, Lives


class Finite:
    """Lives whose every answer is finite, or an error: a life that took one over could not go on."""

    def __init__(self, lives: Lives):
        self.lives = lives

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> Arrays:
        return self.lives.birth(hold=hold, truth=truth)

    def predict(self, state: Arrays, obs: np.ndarray, action: np.ndarray) -> Expected:
        """See `Lives.predict`.

        Raises:
            InferenceError: If a moment that is finite makes it expect what is not.
        """
        return _checked(self.lives.predict(state, obs, action), obs, action)

    def write(
        self,
        state: Arrays,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        valid: np.ndarray,
        truth: np.ndarray | None = None,
    ) -> tuple[Expected, Arrays]:
        """See `Lives.write`.

        Raises:
            InferenceError: As `predict`; or if a memory would not be finite.
        """
        expected, after = self.lives.write(state, obs, action, next_obs, valid, truth)
        broken = sorted(name for name, value in known(after).items() if not np.isfinite(value).all())
        if broken:
            raise InferenceError(
                f"{broken} would not be finite after step {int(state['step'].max())} of this life, which stays as it "
                "was. Stop this agent; go on from a snapshot, and check the sensors"
            )
        return _checked(expected, obs, action), after


def _checked(expected: Expected, *asked: np.ndarray) -> Expected:
    # Of a moment that is not finite itself, nothing can be expected.
    if not all(np.isfinite(each).all() for each in expected) and all(
        np.isfinite(each).all() for each in asked
    ):
        finite = np.isfinite(expected.mean) & np.isfinite(expected.log_variance)
        channels = np.flatnonzero(~finite.all(0)).tolist()
        raise InferenceError(
            f"what is expected of observation channels {channels} is not finite. Stop this agent; go on from a "
            "snapshot"
        )
    return expected
