"""What a robot's agent refuses to live: answers that are no numbers."""

import numpy as np

from wm_robot.errors import InferenceError
from wm_robot.memory.lifetime_state import list_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.types import Step


class Finite:
    """A model backend whose every result is finite, or an error: a state that took one over could not go on."""

    def __init__(self, backend: ModelBackend[np.ndarray]):
        self.backend = backend

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self.backend.birth(hold=hold, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        """See `ModelBackend.predict`.

        Raises:
            InferenceError: If a moment that is finite makes it expect what is not.
        """
        return _checked(self.backend.predict(state, obs, action), obs, action)

    def write(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """See `ModelBackend.write`.

        Raises:
            InferenceError: As `predict`; or if a memory would not be finite.
        """
        expected, after = self.backend.write(state, step)
        if not all(np.isfinite(value).all() for value in list_values(after.learned)):
            broken = sorted(
                name for name, value in after.flatten_model_part().items() if not np.isfinite(value).all()
            )
            raise InferenceError(
                f"{broken} would not be finite after step {int(state.step.max())} of this life, which stays as it "
                "was. Stop this agent; go on from a snapshot, and check the sensors"
            )
        return _checked(expected, step.obs, step.action), after


def _checked(expected: Prediction[np.ndarray], *asked: np.ndarray) -> Prediction[np.ndarray]:
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
