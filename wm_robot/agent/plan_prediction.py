"""Plan prediction: the predicted outcome of a plan, step by step, for display."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend


class PlanPrediction(NamedTuple):
    """Plan of one robot and its predicted outcome, in sensor units."""

    action: Float[np.ndarray, "H A"]
    mean: Float[np.ndarray, "H O"]
    deviation: Float[np.ndarray, "H O"]
    """Deviation of all noise up to each step; without the uncertainty of the lifetime state."""


class LastPlan(NamedTuple):
    """Newest plan with the state and the observation it was computed from."""

    state: ArrayState
    obs: Float[np.ndarray, "B O"]
    plan: Float[np.ndarray, "B H A"]


def predict_plan(backend: ModelBackend[np.ndarray], last_plan: LastPlan) -> PlanPrediction:
    """Predict the outcome of the plan of the first row.

    Args:
        backend: Model backend in torch or ONNX.
    """
    state, obs, means, noise = last_plan.state, last_plan.obs, [], []
    for step in range(last_plan.plan.shape[1]):
        action = last_plan.plan[:, step]
        obs, log_variance = backend.predict(state, obs, action)
        state = append_recent_action(state, action)
        means.append(obs[0])
        noise.append(np.exp(log_variance[0]))
    return PlanPrediction(last_plan.plan[0], np.stack(means), np.sqrt(np.cumsum(noise, 0)))


def append_recent_action(state: ArrayState, action: np.ndarray) -> ArrayState:
    """Append an action to the recent actions, before its step is observed."""
    return replace(state, recent=np.concatenate([state.recent[:, 1:], action[:, None]], 1))
