"""Several lives made one, where their memories can be added up."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wm_robot.adaptation.context_bank import Recall
from wm_robot.errors import ConfigError
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.residual import without_residual
from wm_robot.model.torch_backend import ModelLives, arrays, tensors
from wm_robot.model.world_model import WorldModel


@torch.inference_mode()
def pooled(model: WorldModel, states: Sequence[ArrayState]) -> ArrayState:
    """The state of one robot with the experience of all, from their states alone.

    Args:
        states: Of single robots of the same base, at least two.

    Raises:
        ConfigError: If the family cannot be merged, with what to do instead; or if only some of them have a bank.
    """
    if len(states) < 2:
        raise ConfigError(f"{len(states)} lives to pool; there must be at least two")
    merged = arrays(merge_states(model, [tensors(state.model_part()) for state in states]))
    banks = {state.bank is not None for state in states}
    if len(banks) > 1:
        raise ConfigError(
            "some of these lives remember conditions and some do not. Pool lives of the same kind: agents with, or "
            "without recall"
        )
    return Recall(ModelLives(model)).merge(merged, states) if banks == {True} else merged


def merge_states(model: WorldModel, states: Sequence[LifetimeState[Tensor]]) -> LifetimeState[Tensor]:
    """The state of one robot with the experience of all, where the memories can be merged.

    It has no residual: that is learned from transitions, and a sum of two is none.

    Raises:
        ConfigError: If they cannot; see `Memory.merge`.
    """
    memory = tuple(
        layer.merge([state.memory[i] for state in states]) for i, layer in enumerate(model.memory_layers)
    )
    return LifetimeState(
        step=torch.stack([state.step for state in states]).sum(0),
        recent=states[0].recent,
        learned=LearnedState(memory, without_residual(states[0]).residual),
    )
