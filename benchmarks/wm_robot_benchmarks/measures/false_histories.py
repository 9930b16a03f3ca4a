"""False histories: model backends whose memory learned nothing, or the life of another robot."""

from dataclasses import replace

import numpy as np

from wm_robot.agent.plan_prediction import append_recent_action
from wm_robot.memory.lifetime_state import map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.types import Step


class _FalseHistory:
    """Model backend that predicts like another one."""

    def __init__(self, backend: ModelBackend[np.ndarray]):
        self._backend = backend

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self._backend.initial_state(initial_action=initial_action, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self._backend.predict(state, obs, action)


class ResetMemory(_FalseHistory):
    """Model backend whose learned state is never updated; actions under way stay known."""

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        return self.predict(state, step.obs, step.action), append_recent_action(state, step.action)


class OtherLife(_FalseHistory):
    """Model backend whose learned state of each robot is that of the robot before it in the batch."""

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        def roll(value: np.ndarray) -> np.ndarray:
            return np.roll(value, 1, 0)

        lived: Step[np.ndarray] = map_values(roll, step)
        _, other = self._backend.update(replace(state, recent=roll(state.recent)), lived)
        expected = self._backend.predict(state, step.obs, step.action)
        # Each robot knows its own actions under way.
        return expected, replace(other, recent=np.roll(other.recent, -1, 0))
