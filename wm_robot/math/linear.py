"""Linear map with one weight for all agents, or one for each agent of a batch."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def apply_linear(x: Float[Tensor, "*B I"], weight: Tensor) -> Float[Tensor, "*B O"]:
    """Apply a linear map to the last axis: one weight `O I` for all, or one for each agent, `B O I`."""
    if weight.ndim == 2:
        return F.linear(x, weight)
    return (x.flatten(1, -2) @ weight.mT).unflatten(1, x.shape[1:-1])
