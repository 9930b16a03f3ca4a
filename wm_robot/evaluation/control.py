"""Closed-loop evaluation: the target error of agents before and after a hidden change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.progress import Progress, unreported


@runtime_checkable
class Crew(Protocol):
    """Batch of `B` agents with the methods that this evaluation needs."""

    def begin(self, hold: np.ndarray, truth: np.ndarray | None = None) -> None: ...

    def act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray: ...

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, truth: np.ndarray | None = None
    ) -> object: ...


@runtime_checkable
class Plants(Protocol):
    """Batch of `B` robots."""

    obs: np.ndarray

    @property
    def hold(self) -> np.ndarray: ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def tip(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Change:
    """Hidden change during an evaluation."""

    step: int
    """Control step of the change."""
    apply: Callable[[], None]
    """Applies the change."""
    truth_before: np.ndarray
    """True physics, `B P`, for the `oracle` variant."""
    truth_after: np.ndarray


def target_error(
    plants: Plants, crew: Crew, goals: np.ndarray, change: Change, *, progress: Progress = unreported
) -> np.ndarray:
    """Measure the distance from the true gripper to the goal at the same time, after every step: `B T`, in m.

    Args:
        goals: `B T+1 G`: before the first step, and after each.
        progress: Progress in steps.
    """
    truth = change.truth_before
    crew.begin(plants.hold, truth)
    errors, steps = [], goals.shape[1] - 1
    for t in range(steps):
        if t == change.step:
            change.apply()
            truth = change.truth_after
        obs = plants.obs.copy()
        next_obs, applied = plants.step(crew.act(obs, goals[:, t]))
        crew.observe(obs, applied, next_obs, truth=truth)
        errors.append(np.linalg.norm(plants.tip() - goals[:, t + 1], axis=-1))
        progress(t + 1, steps)
    return np.stack(errors, 1)
