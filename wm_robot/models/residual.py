"""What a life adds to the weights of its base: a residual of low rank, for the first layer, for the last, and for the
layer by which a vector of memory is read.

It is part of the state and zero at birth. The model reads it and never writes it; `learning.consolidate` fits it, in
minutes, to what the memories leave over.

Source of the form: Hu et al. (2021), LoRA, arXiv:2106.09685.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from wm_robot.lifetime.memory import State

RANK = 8
PREFIX = "residual."
FIRST, LAST, READ = "residual.first", "residual.last", "residual.read"
"""First: from what is asked to the first layer, its linear change of the sensors included. Last: from the last hidden
layer to the change of the sensors, in units of the one-step change. Read: from a memory's vector to what it modulates
by; a number for each memory follows."""
DOWN, UP = ".down", ".up"
"""The two halves of each part: `B R I` and `B O R`."""


def no_residual(sizes: Mapping[str, tuple[int, int]], like: Tensor) -> State:
    """That of newborns: the base as it is.

    Args:
        sizes: Part → inputs and outputs of its layer.
        like: Has a row for each life.
    """
    residual = {}
    for part, (inputs, outputs) in sizes.items():
        residual[part + DOWN] = like.new_zeros(len(like), RANK, inputs)
        residual[part + UP] = like.new_zeros(len(like), outputs, RANK)
    return residual


def residual_of(state: State) -> State:
    """The residual of lives."""
    return {name: value for name, value in state.items() if name.startswith(PREFIX)}


def without_residual(state: State) -> State:
    """The same lives with none."""
    return state | {name: torch.zeros_like(value) for name, value in residual_of(state).items()}


def parts_of(residual: State) -> Sequence[str]:
    """Names of its parts."""
    return [name.removesuffix(UP) for name in residual if name.endswith(UP)]


def has_residual(state: State) -> Bool[Tensor, "B"]:
    """Which lives have one."""
    residual = residual_of(state)
    return torch.stack([residual[part + UP].flatten(1).any(1) for part in parts_of(residual)]).any(0)
