"""The border between what lives on arrays and what torch computes. Nothing is copied at it.

`ModelLives` is a model behind the array interface; `TensorWrites` is an array backend for experiments on tensors.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.memory import State
from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.backend import Expected
from wm_robot.model.backend import Writes as ArrayWrites
from wm_robot.model.world_model import Prediction, WorldModel


@runtime_checkable
class Writes(Protocol):
    """What lives step by step on tensors: a model, or one of those below."""

    def write(
        self,
        state: State,
        obs: Tensor,
        action: Tensor,
        next_obs: Tensor,
        valid: Tensor,
        truth: Tensor | None = None,
    ) -> tuple[Prediction, State]:
        """See `WorldModel.write`."""


def array(value: Tensor) -> np.ndarray:
    """A tensor's numbers, where they are."""
    return value.detach().numpy()


def arrays(state: Mapping[str, Tensor]) -> Arrays:
    """A state of tensors, where it is."""
    return {name: array(value) for name, value in state.items()}


def tensors(state: Mapping[str, np.ndarray]) -> State:
    """A state of arrays, where it is."""
    return {name: torch.from_numpy(value) for name, value in state.items()}


class ModelLives:
    """A model, as what lives on arrays."""

    def __init__(self, model: WorldModel):
        self.model = model

    @torch.inference_mode()
    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> Arrays:
        return arrays(self.model.birth(len(hold), hold=torch.from_numpy(hold), truth=self._told(truth)))

    @torch.inference_mode()
    def predict(self, state: Arrays, obs: np.ndarray, action: np.ndarray) -> Expected:
        found = self.model.predict(tensors(state), *map(torch.from_numpy, (obs, action)))
        return Expected(*map(array, found))

    @torch.inference_mode()
    def write(
        self,
        state: Arrays,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        valid: np.ndarray,
        truth: np.ndarray | None = None,
    ) -> tuple[Expected, Arrays]:
        of = torch.from_numpy
        expected, after = self.model.write(
            tensors(state), of(obs), of(action), of(next_obs), of(valid), self._told(truth)
        )
        return Expected(*map(array, expected)), arrays(after)

    def _told(self, truth: np.ndarray | None) -> Tensor | None:
        return torch.from_numpy(truth) if truth is not None and self.model.told else None


class TensorWrites:
    """What lives on arrays, on tensors."""

    def __init__(self, lives: ArrayWrites):
        self.lives = lives

    def write(
        self,
        state: State,
        obs: Tensor,
        action: Tensor,
        next_obs: Tensor,
        valid: Tensor,
        truth: Tensor | None = None,
    ) -> tuple[Prediction, State]:
        told = None if truth is None else array(truth)
        expected, after = self.lives.write(
            arrays(state), array(obs), array(action), array(next_obs), array(valid), told
        )
        return Prediction(*map(torch.from_numpy, expected)), tensors(after)
