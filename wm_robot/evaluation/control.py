"""Closed-loop evaluation: the task error of agents before and after hidden changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.progress import Progress, ignore_progress
from wm_robot.tasks import TaskError


@runtime_checkable
class EvaluatedAgents(Protocol):
    """Batch of `B` agents with the methods that this evaluation needs."""

    def begin(self, last_action: np.ndarray, truth: np.ndarray | None = None) -> None: ...

    def act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray: ...

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, truth: np.ndarray | None = None
    ) -> object: ...


@runtime_checkable
class EvaluatedPlants(Protocol):
    """Batch of `B` robots."""

    @property
    def obs(self) -> np.ndarray: ...

    @property
    def last_action(self) -> np.ndarray: ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def compute_true_obs(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class HiddenChange:
    """Hidden change during an evaluation."""

    step: int
    """Control step of the change."""
    apply: Callable[[], None]
    """Applies the change."""
    truth_before: np.ndarray
    """True physics, `B P`, for the `oracle` variant."""
    truth_after: np.ndarray


def measure_task_error(
    plants: EvaluatedPlants,
    agents: EvaluatedAgents,
    goals: np.ndarray,
    change: HiddenChange,
    error: TaskError,
    *,
    later: Sequence[HiddenChange] = (),
    progress: Progress = ignore_progress,
) -> np.ndarray:
    """Measure the error of the true state for the goal at the same time, after every step: `B T`.

    Args:
        goals: `B T+1 G`: before the first step, and after each.
        change: First hidden change.
        error: Error of the task; it gets observations without noise, bias and delay.
        later: Further changes.
        progress: Progress in steps.
    """
    truth, changes = change.truth_before, {each.step: each for each in (change, *later)}
    agents.begin(plants.last_action, truth)
    errors, steps, true_obs = [], goals.shape[1] - 1, plants.compute_true_obs()
    for t in range(steps):
        if now := changes.get(t):
            now.apply()
            truth = now.truth_after
        obs = plants.obs.copy()
        next_obs, applied = plants.step(agents.act(obs, goals[:, t]))
        agents.observe(obs, applied, next_obs, truth=truth)
        true_next_obs = plants.compute_true_obs()
        errors.append(error.measure(true_obs, applied, true_next_obs, goals[:, t + 1]))
        true_obs = true_next_obs
        progress(t + 1, steps)
    return np.stack(errors, 1)
