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
from wm_robot.model.onnx_session import Function
from wm_robot.types import Step

EXPECTED = ("expected.mean", "expected.log_variance")
AFTER = "after."


class LifeGraph:
    """`ModelBackend` by ONNX graphs, without torch. The lifetime state is passed in and out."""

    def __init__(self, predict: Function, writes: Mapping[int, Function], born: Mapping[str, np.ndarray]):
        """Args:
        updates: Update functions by the number of states that each updates.
        initial_state: Flat form of the initial state of one robot.
        """
        self._predict, self._writes = predict, writes
        self._born = LifetimeState.unflatten(born)
        self._memory = [
            {name: f"{AFTER}{layer}.{name}" for name in parts}
            for layer, parts in enumerate(self._born.memory)
        ]
        """Output name of each part of the memories in the update functions."""

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        """See `ModelBackend.initial_state`; the true physics are ignored."""
        born = map_values(lambda value: np.repeat(value, len(hold), 0), self._born)
        return replace(born, recent=np.repeat(hold[:, None], born.recent.shape[1], 1))

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        """See `ModelBackend.predict`."""
        found = self._predict(state.flatten_model_part(), {"obs": obs, "action": action})
        return _prediction(found)

    def write(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """See `ModelBackend.update`; for one or two states."""
        given = {"obs": step.obs, "action": step.action, "next_obs": step.next_obs, "valid": step.valid}
        found = self._writes[len(step.obs)](state.flatten_model_part(), given)
        memory = tuple({name: found[output] for name, output in parts.items()} for parts in self._memory)
        learned = LearnedState(memory, state.residual)
        after = replace(state, step=found[AFTER + STEP], recent=found[AFTER + RECENT], learned=learned)
        return _prediction(found), after


def _prediction(found: Arrays) -> Prediction[np.ndarray]:
    return Prediction(*(found[name] for name in EXPECTED))
