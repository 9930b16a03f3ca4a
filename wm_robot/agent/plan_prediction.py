"""What an agent expects of its plan, for people to see: one step after another, as its life tells them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.backend import Lives


class Imagined(NamedTuple):
    """A plan of one robot, and what is expected of it, in sensor units."""

    action: Float[np.ndarray, "H A"]
    mean: Float[np.ndarray, "H O"]
    deviation: Float[np.ndarray, "H O"]
    """Of all noise up to each step; what the life does not know comes on top."""


class Thought(NamedTuple):
    """The moment of an action: the life, what was sensed, and the plan whose first action was taken."""

    state: Arrays
    sensed: Float[np.ndarray, "B O"]
    plan: Float[np.ndarray, "B H A"]


def imagined(lives: Lives, thought: Thought) -> Imagined:
    """What the first of these lives expects of its plan.

    Args:
        lives: A model, or its graphs.
    """
    state, obs, means, noise = thought.state, thought.sensed, [], []
    for step in range(thought.plan.shape[1]):
        action = thought.plan[:, step]
        obs, log_variance = lives.predict(state, obs, action)
        state = state | {"recent": np.concatenate([state["recent"][:, 1:], action[:, None]], 1)}
        means.append(obs[0])
        noise.append(np.exp(log_variance[0]))
    return Imagined(thought.plan[0], np.stack(means), np.sqrt(np.cumsum(noise, 0)))
