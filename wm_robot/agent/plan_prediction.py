"""Plan prediction: the predicted outcome of a plan, step by step, for display."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend


class Imagined(NamedTuple):
    """Plan of one robot and its predicted outcome, in sensor units."""

    action: Float[np.ndarray, "H A"]
    mean: Float[np.ndarray, "H O"]
    deviation: Float[np.ndarray, "H O"]
    """Deviation of all noise up to each step; without the uncertainty of the lifetime state."""


class Thought(NamedTuple):
    """Newest plan with the state and the observation it was computed from."""

    state: ArrayState
    sensed: Float[np.ndarray, "B O"]
    plan: Float[np.ndarray, "B H A"]


def imagined(backend: ModelBackend[np.ndarray], thought: Thought) -> Imagined:
    """Predict the outcome of the plan of the first row.

    Args:
        backend: Model backend in torch or ONNX.
    """
    state, obs, means, noise = thought.state, thought.sensed, [], []
    for step in range(thought.plan.shape[1]):
        action = thought.plan[:, step]
        obs, log_variance = backend.predict(state, obs, action)
        state = with_action(state, action)
        means.append(obs[0])
        noise.append(np.exp(log_variance[0]))
    return Imagined(thought.plan[0], np.stack(means), np.sqrt(np.cumsum(noise, 0)))


def with_action(state: ArrayState, action: np.ndarray) -> ArrayState:
    """Append an action to the recent actions, before its step is observed."""
    return replace(state, recent=np.concatenate([state.recent[:, 1:], action[:, None]], 1))
