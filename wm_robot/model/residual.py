"""Residual: low-rank corrections of the base's first layer, last layer and memory readout.

It is part of the lifetime state and zero in the initial state. The model reads it and never updates it;
`adaptation.residual_fit` fits it, in minutes, to the errors that the memories leave.

Everything here accepts tensors and arrays, and needs no torch.

Source of the form: Hu et al. (2021), LoRA, arXiv:2106.09685.
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

from wm_robot.memory.lifetime_state import LearnedState, LifetimeState, LowRank, Residual, map_values

RESIDUAL_RANK = 8
LayerSizes = tuple[int, int]
"""Number of inputs and outputs of the corrected layer."""


def make_zero_residual(
    first: LayerSizes, last: LayerSizes, read: Sequence[LayerSizes | None], like: Any
) -> Residual[Any]:
    """Create the zero residual of initial states.

    Args:
        read: Sizes by memory layer; None for a layer without a residual.
        like: A tensor with a row for each state.
    """

    def zero(sizes: LayerSizes) -> LowRank[Any]:
        inputs, outputs = sizes
        return LowRank(
            like.new_zeros(len(like), RESIDUAL_RANK, inputs),
            like.new_zeros(len(like), outputs, RESIDUAL_RANK),
        )

    return Residual(zero(first), zero(last), tuple(each and zero(each) for each in read))


def clear_residual(state: LifetimeState[Any]) -> LifetimeState[Any]:
    """Return the same states with a residual of zero, as tensors."""
    return state.with_residual(map_values(lambda value: value.new_zeros(value.shape), state.residual))


def has_residual(state: LifetimeState[Any] | LearnedState[Any]) -> Any:
    """Whether each row has a residual that is not zero, `B`."""
    assert state.residual is not None, "the state has no residual"
    ups = [part.up for part in state.residual.parts.values()]
    return reduce(operator.or_, ((up != 0).reshape(len(up), -1).any(1) for up in ups))
