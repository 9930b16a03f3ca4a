"""Reward of a step: a plain function, or one of features that a planner may linearise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.math.kinematics import Array

RewardFunction = Callable[[Array, Array, Array, Array], Array]
"""obs `… O`, action `… A`, next_obs `… O`, goal `… G` → reward `…`, for NumPy arrays and torch tensors. The four
arguments have the same leading shape, which is free."""
RewardFactory = Callable[..., Any]
"""Robot spec and the parameters of a task → `RewardFunction` or `Reward`."""
ARGUMENTS = ("obs", "action", "next_obs", "goal")
"""Names of the arguments of a `RewardFunction`."""


def return_observation(obs: Array) -> Array:
    """Return an observation: the features of a plain reward function."""
    return obs


@dataclass(frozen=True, kw_only=True)
class RewardError:
    """Error that a reward stands for, in a unit that people measure in; the planner does not use it."""

    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """obs `… O`, goal `… G` → error `…`, at least 0; NumPy arrays."""
    unit: str
    """Unit of the error, such as `m` or `rad`."""
    tolerance: float
    """Largest mean error of a robot that solves the task."""


@dataclass(frozen=True)
class Reward:
    """Reward of a step: a function of the features of observations.

    The planner computes the features of a few imagined plans. For all other plans it takes the features as linear in
    the plan, and evaluates the function itself. Features save time where they are expensive and few, such as a
    gripper position; they must be smooth. Without them, the predicted observations are taken as linear in the plan.
    """

    function: RewardFunction
    """features of obs `… F`, action `… A`, features of next_obs `… F`, goal `… G` → reward `…`."""
    features: Callable[[Array], Array] = return_observation
    """obs `… O` → features `… F`."""
    goal_sizes: tuple[int, ...] = ()
    """Numbers of goal values that the function accepts; empty: any."""
    uses_obs: bool = True
    """False if the function ignores its first argument. Then it gets the features of next_obs there, and those of obs
    are not computed."""
    error: RewardError | None = None
    """Error of the task; None: only the reward is known."""

    def __call__(self, obs: Array, action: Array, next_obs: Array, goal: Array) -> Array:
        """Compute the reward of a step; see `RewardFunction`."""
        after = self.features(next_obs)
        return self.function(self.features(obs) if self.uses_obs else after, action, after, goal)
