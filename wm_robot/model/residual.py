"""What a life adds to the weights of its base: a residual of low rank, for the first layer, for the last, and for the
layer by which a vector of memory is read.

It is part of the state and zero at birth. The model reads it and never writes it; `adaptation.residual_fit` fits it,
in minutes, to what the memories leave over.

Everything here works alike on tensors and on arrays, and needs no torch.

Source of the form: Hu et al. (2021), LoRA, arXiv:2106.09685.
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

from wm_robot.memory.lifetime_state import LearnedState, LifetimeState, LowRank, Residual, map_values

RANK = 8
Sizes = tuple[int, int]
"""Inputs and outputs of the layer that a part stands beside."""


def no_residual(first: Sizes, last: Sizes, read: Sequence[Sizes | None], like: Any) -> Residual[Any]:
    """The residual of initial states: the base as it is.

    Args:
        read: By memory layer; None where it has none.
        like: A tensor with a row for each state.
    """

    def zero(sizes: Sizes) -> LowRank[Any]:
        inputs, outputs = sizes
        return LowRank(like.new_zeros(len(like), RANK, inputs), like.new_zeros(len(like), outputs, RANK))

    return Residual(zero(first), zero(last), tuple(each and zero(each) for each in read))


def without_residual(state: LifetimeState[Any]) -> LifetimeState[Any]:
    """The same states with a residual of zero, as tensors."""
    return state.with_residual(map_values(lambda value: value.new_zeros(value.shape), state.residual))


def has_residual(state: LifetimeState[Any] | LearnedState[Any]) -> Any:
    """Which rows have a residual that is not zero, `B`."""
    assert state.residual is not None, "the state has no residual"
    ups = [part.up for part in state.residual.parts.values()]
    return reduce(operator.or_, ((up != 0).reshape(len(up), -1).any(1) for up in ups))
