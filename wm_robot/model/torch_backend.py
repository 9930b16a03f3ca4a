"""PyTorch model backend, and conversion between arrays and tensors without copies."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState, convert_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import Prediction
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

TensorState = LifetimeState[Tensor]


def to_array(value: Tensor) -> np.ndarray:
    """Convert a tensor to an array without a copy."""
    return value.detach().numpy()


def to_arrays(state: TensorState) -> ArrayState:
    """Convert a state of tensors to arrays without a copy."""
    state_arrays: ArrayState = convert_values(to_array, state)
    return state_arrays


def to_tensors(state: ArrayState) -> TensorState:
    """Convert a state of arrays to tensors without a copy."""
    state_tensors: TensorState = convert_values(torch.from_numpy, state)
    return state_tensors


class TorchBackend:
    """`ModelBackend` on arrays by a model in torch."""

    def __init__(self, model: WorldModel):
        self.model = model

    @torch.inference_mode()
    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return to_arrays(
            self.model.initial_state(
                initial_action=torch.from_numpy(initial_action), truth=self._select_truth(truth)
            )
        )

    @torch.inference_mode()
    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        found = self.model.predict(to_tensors(state.model_part()), *map(torch.from_numpy, (obs, action)))
        return _convert_to_arrays(found)

    @torch.inference_mode()
    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        of = torch.from_numpy
        given = Step(
            of(step.obs),
            of(step.action),
            of(step.next_obs),
            of(step.valid),
            truth=self._select_truth(step.truth),
            measured=None if step.measured is None else of(step.measured),
        )
        expected, after = self.model.update(to_tensors(state.model_part()), given)
        written = to_arrays(after)
        return _convert_to_arrays(expected), replace(
            state, step=written.step, recent=written.recent, learned=written.learned
        )

    def _select_truth(self, truth: np.ndarray | None) -> Tensor | None:
        return torch.from_numpy(truth) if truth is not None and self.model.uses_privileged_state else None


def _convert_to_arrays(found: Prediction[Tensor]) -> Prediction[np.ndarray]:
    return Prediction(*map(to_array, found))
