"""What an agent expects of its plan, for people to see: one step after another, as its life tells them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend


class Imagined(NamedTuple):
    """A plan of one robot, and what is expected of it, in sensor units."""

    action: Float[np.ndarray, "H A"]
    mean: Float[np.ndarray, "H O"]
    deviation: Float[np.ndarray, "H O"]
    """Of all noise up to each step; what the life does not know comes on top."""


class Thought(NamedTuple):
    """The moment of an action: the life, what was sensed, and the plan whose first action was taken."""

    state: ArrayState
    sensed: Float[np.ndarray, "B O"]
    plan: Float[np.ndarray, "B H A"]


def imagined(backend: ModelBackend[np.ndarray], thought: Thought) -> Imagined:
    """What the first of these lives expects of its plan.

    Args:
        backend: By torch or ONNX.
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
    """States with one action more on its way to the motors, before that step is observed."""
    return replace(state, recent=np.concatenate([state.recent[:, 1:], action[:, None]], 1))
