"""ONNX model backend: predicts the next observation and updates the lifetime state, without torch."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from wm_robot.memory.lifetime_state import (
    RECENT,
    STEP,
    LearnedState,
    LifetimeState,
    map_values,
)
from wm_robot.memory.state_arrays import Arrays, ArrayState
from wm_robot.model.backend import Prediction
from wm_robot.model.onnx_session import StateFunction
from wm_robot.types import Step

PREDICTION_OUTPUTS = ("predicted.mean", "predicted.log_variance")
NEXT_STATE_PREFIX = "next_state."


class OnnxBackend:
    """`ModelBackend` by ONNX graphs, without torch. The lifetime state is passed in and out."""

    def __init__(
        self,
        predict: StateFunction,
        updates: Mapping[int, StateFunction],
        initial_state: Mapping[str, np.ndarray],
    ):
        """Args:
        updates: Update functions by the number of states that each updates.
        initial_state: Flat form of the initial state of one robot.
        """
        self._predict, self._updates = predict, updates
        self._initial_state = LifetimeState.unflatten(initial_state)
        self._memory_outputs = [
            {name: f"{NEXT_STATE_PREFIX}{layer}.{name}" for name in parts}
            for layer, parts in enumerate(self._initial_state.memory)
        ]
        """Output name of each part of the memories in the update functions."""

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        """See `ModelBackend.initial_state`; the true physics are ignored."""
        born = map_values(lambda value: np.repeat(value, len(initial_action), 0), self._initial_state)
        return replace(born, recent=np.repeat(initial_action[:, None], born.recent.shape[1], 1))

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        """See `ModelBackend.predict`."""
        found = self._predict(state.flatten_model_part(), {"obs": obs, "action": action})
        return _make_prediction(found)

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """See `ModelBackend.update`; for one or two states."""
        given = {"obs": step.obs, "action": step.action, "next_obs": step.next_obs, "valid": step.valid}
        # A base without optional sensors has graphs without that input.
        given["measured"] = np.ones_like(step.next_obs) if step.measured is None else step.measured
        found = self._updates[len(step.obs)](state.flatten_model_part(), given)
        memory = tuple(
            {name: found[output] for name, output in parts.items()} for parts in self._memory_outputs
        )
        learned = LearnedState(memory, state.residual)
        after = replace(
            state,
            step=found[NEXT_STATE_PREFIX + STEP],
            recent=found[NEXT_STATE_PREFIX + RECENT],
            learned=learned,
        )
        return _make_prediction(found), after


def _make_prediction(found: Arrays) -> Prediction[np.ndarray]:
    return Prediction(*(found[name] for name in PREDICTION_OUTPUTS))
