"""PyTorch model backend, and conversion between arrays and tensors without copies."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState, convert_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

TensorState = LifetimeState[Tensor]


def array(value: Tensor) -> np.ndarray:
    """Convert a tensor to an array without a copy."""
    return value.detach().numpy()


def arrays(state: TensorState) -> ArrayState:
    """Convert a state of tensors to arrays without a copy."""
    state_arrays: ArrayState = convert_values(array, state)
    return state_arrays


def tensors(state: ArrayState) -> TensorState:
    """Convert a state of arrays to tensors without a copy."""
    state_tensors: TensorState = convert_values(torch.from_numpy, state)
    return state_tensors


class ModelLives:
    """`ModelBackend` on arrays by a model in torch."""

    def __init__(self, model: WorldModel):
        self.model = model

    @torch.inference_mode()
    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return arrays(self.model.birth(hold=torch.from_numpy(hold), truth=self._told(truth)))

    @torch.inference_mode()
    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        found = self.model.predict(tensors(state.model_part()), *map(torch.from_numpy, (obs, action)))
        return _as_arrays(found)

    @torch.inference_mode()
    def write(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        of = torch.from_numpy
        given = Step(
            of(step.obs), of(step.action), of(step.next_obs), of(step.valid), truth=self._told(step.truth)
        )
        expected, after = self.model.write(tensors(state.model_part()), given)
        written = arrays(after)
        return _as_arrays(expected), replace(
            state, step=written.step, recent=written.recent, learned=written.learned
        )

    def _told(self, truth: np.ndarray | None) -> Tensor | None:
        return torch.from_numpy(truth) if truth is not None and self.model.told else None


class TensorBackend:
    """`ModelBackend` on tensors around one on arrays, for experiments with many states."""

    def __init__(self, backend: ModelBackend[np.ndarray]):
        self.backend = backend

    def birth(self, *, hold: Tensor, truth: Tensor | None = None) -> TensorState:
        return tensors(self.backend.birth(hold=array(hold), truth=None if truth is None else array(truth)))

    def predict(self, state: TensorState, obs: Tensor, action: Tensor) -> Prediction[Tensor]:
        return _as_tensors(self.backend.predict(arrays(state), array(obs), array(action)))

    def write(self, state: TensorState, step: Step[Tensor]) -> tuple[Prediction[Tensor], TensorState]:
        given: Step[np.ndarray] = convert_values(array, step)
        expected, after = self.backend.write(arrays(state), given)
        return _as_tensors(expected), tensors(after)


def _as_arrays(found: Prediction[Tensor]) -> Prediction[np.ndarray]:
    return Prediction(*map(array, found))


def _as_tensors(found: Prediction[np.ndarray]) -> Prediction[Tensor]:
    return Prediction(*map(torch.from_numpy, found))
