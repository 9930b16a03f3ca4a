"""Pooling: merges several lifetime states into one, where their memories can be added."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.errors import ConfigError
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.residual import clear_residual
from wm_robot.model.torch_backend import TorchBackend, to_arrays, to_tensors
from wm_robot.model.world_model import WorldModel


@torch.inference_mode()
def merge_lifetime_states(model: WorldModel, states: Sequence[ArrayState]) -> ArrayState:
    """Pool states: return the state of one robot with the experience of all, from their states alone.

    Args:
        states: States of single robots with the same base, at least two.

    Raises:
        ConfigError: If the family cannot merge states, with the alternative; or if only some have a context bank.
    """
    if len(states) < 2:
        raise ConfigError(f"{len(states)} states to pool; there must be at least two")
    merged = to_arrays(merge_memories(model, [to_tensors(state.model_part()) for state in states]))
    banks = {state.bank is not None for state in states}
    if len(banks) > 1:
        raise ConfigError(
            "some of these states have a context bank and some do not. Pool states of the same kind: agents with, or "
            "without recall"
        )
    return ContextBank(TorchBackend(model)).merge_banks(merged, states) if banks == {True} else merged


def merge_memories(model: WorldModel, states: Sequence[LifetimeState[Tensor]]) -> LifetimeState[Tensor]:
    """Merge the memories of all states into one state.

    Its residual is zero: a residual is fitted to transitions, and a sum of two is not valid.

    Raises:
        ConfigError: If the family cannot merge states; see `Memory.merge_states`.
    """
    memory = tuple(
        layer.merge_states([state.memory[i] for state in states])
        for i, layer in enumerate(model.memory_layers)
    )
    return LifetimeState(
        step=torch.stack([state.step for state in states]).sum(0),
        recent=states[0].recent,
        learned=LearnedState(memory, clear_residual(states[0]).residual),
    )
