"""NaN guard: rejects predictions and state updates that are not finite."""

import numpy as np

from wm_robot.errors import InferenceError
from wm_robot.memory.lifetime_state import list_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.types import Step


class NanGuard:
    """Model backend around another one that raises an error for every result that is not finite."""

    def __init__(self, backend: ModelBackend[np.ndarray]):
        self.backend = backend

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self.backend.initial_state(initial_action=initial_action, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        """See `ModelBackend.predict`.

        Raises:
            InferenceError: If the inputs are finite and the prediction is not.
        """
        return _check_finite(self.backend.predict(state, obs, action), obs, action)

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """See `ModelBackend.update`.

        Raises:
            InferenceError: As `predict`; or if a memory would not be finite.
        """
        expected, after = self.backend.update(state, step)
        if not all(np.isfinite(value).all() for value in list_values(after.learned)):
            broken = sorted(
                name for name, value in after.flatten_model_part().items() if not np.isfinite(value).all()
            )
            raise InferenceError(
                f"{broken} would not be finite after step {int(state.step.max())}; the lifetime state stays "
                "unchanged. Stop this agent, check the sensors, and continue from a snapshot"
            )
        return _check_finite(expected, step.obs, step.action), after


def _check_finite(prediction: Prediction[np.ndarray], *inputs: np.ndarray) -> Prediction[np.ndarray]:
    # Inputs that are not finite have no finite prediction.
    if not all(np.isfinite(each).all() for each in prediction) and all(
        np.isfinite(each).all() for each in inputs
    ):
        finite = np.isfinite(prediction.mean) & np.isfinite(prediction.log_variance)
        channels = np.flatnonzero(~finite.all(0)).tolist()
        raise InferenceError(
            f"the prediction of observation channels {channels} is not finite. Stop this agent and continue from a "
            "snapshot"
        )
    return prediction
