"""Linear maps whose weights are those of a base, or each life's own."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def linear(x: Float[Tensor, "*B I"], weight: Tensor) -> Float[Tensor, "*B O"]:
    """A linear map of the last axis: by one weight `O I`, or of each life by its own, `B O I`."""
    if weight.ndim == 2:
        return F.linear(x, weight)
    return (x.flatten(1, -2) @ weight.mT).unflatten(1, x.shape[1:-1])
