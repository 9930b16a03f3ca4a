"""Several lives made one, where their memories can be added up."""

from collections.abc import Sequence

import torch

from wm_robot.adaptation.context_bank import has_bank
from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.errors import ConfigError
from wm_robot.memory.memory import State
from wm_robot.model.world_model import WorldModel


@torch.inference_mode()
def pooled(model: WorldModel, states: Sequence[State]) -> State:
    """The life of one robot that lived all of these, told from their states alone.

    Args:
        states: Single lives of the same base, at least two.

    Raises:
        ConfigError: If the family cannot be merged, with what to do instead; or if only some of them have a bank.
    """
    if len(states) < 2:
        raise ConfigError(f"{len(states)} lives to pool; there must be at least two")
    merged = model.merge(states)
    banks = {has_bank(state) for state in states}
    if len(banks) > 1:
        raise ConfigError(
            "some of these lives remember conditions and some do not. Pool lives of the same kind: agents with, or "
            "without recall"
        )
    return TensorRecall(model).merge(merged, states) if banks == {True} else merged
