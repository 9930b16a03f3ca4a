"""What a life adds to the weights of its base: a residual of low rank, for the first layer, for the last, and for the
layer by which a vector of memory is read.

It is part of the state and zero at birth. The model reads it and never writes it; `learning.consolidate` fits it, in
minutes, to what the memories leave over.

Everything here works alike on tensors and on arrays, and needs no torch.

Source of the form: Hu et al. (2021), LoRA, arXiv:2106.09685.
"""

import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

Value = TypeVar("Value")
"""A tensor or an array."""

RANK = 8
PREFIX = "residual."
FIRST, LAST, READ = "residual.first", "residual.last", "residual.read"
"""First: from what is asked to the first layer, its linear change of the sensors included. Last: from the last hidden
layer to the change of the sensors, in units of the one-step change. Read: from a memory's vector to what it modulates
by; a number for each memory follows."""
DOWN, UP = ".down", ".up"
"""The two halves of each part: `B R I` and `B O R`."""


def no_residual(sizes: Mapping[str, tuple[int, int]], like: Any) -> dict[str, Any]:
    """That of newborns: the base as it is.

    Args:
        sizes: Part → inputs and outputs of its layer.
        like: A tensor with a row for each life.
    """
    residual = {}
    for part, (inputs, outputs) in sizes.items():
        residual[part + DOWN] = like.new_zeros(len(like), RANK, inputs)
        residual[part + UP] = like.new_zeros(len(like), outputs, RANK)
    return residual


def residual_of(state: Mapping[str, Value]) -> dict[str, Value]:
    """The residual of lives."""
    return {name: value for name, value in state.items() if name.startswith(PREFIX)}


def without_residual(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same lives with none, as tensors."""
    return {**state, **{name: value.new_zeros(value.shape) for name, value in residual_of(state).items()}}


def parts_of(residual: Mapping[str, Any]) -> Sequence[str]:
    """Names of its parts."""
    return [name.removesuffix(UP) for name in residual if name.endswith(UP)]


def has_residual(state: Mapping[str, Any]) -> Any:
    """Which lives have one, `B`."""
    ups = [value for name, value in residual_of(state).items() if name.endswith(UP)]
    return reduce(operator.or_, ((up != 0).reshape(len(up), -1).any(1) for up in ups))
