"""Cholesky factors, as they are used by what must go on: NaN instead of an exception."""

import torch
from jaxtyping import Float
from torch import Tensor


def cholesky(matrix: Float[Tensor, "... K K"]) -> Float[Tensor, "... K K"]:
    """The lower factor; NaN where rounding left the matrix not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where(failed[..., None, None] == 0, factor, torch.nan)
