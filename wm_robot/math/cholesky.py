"""Cholesky factors, as they are used by what must go on: NaN instead of an exception."""

import torch
from jaxtyping import Float
from torch import Tensor, library


@library.custom_op("wm_robot::whitened", mutates_args=())
def whitened(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """L⁻¹ B and the diagonal of L, for matrices L Lᵀ, `… K K`, and columns B, `… K N`; NaN as in `cholesky`.

    An operation of its own, so that an exported graph may do both in one elimination.
    """
    factor = cholesky(matrix)
    white = torch.linalg.solve_triangular(factor, right, upper=False)
    return white, factor.diagonal(dim1=-2, dim2=-1).clone()


def cholesky(matrix: Float[Tensor, "... K K"]) -> Float[Tensor, "... K K"]:
    """The lower factor; NaN where rounding left the matrix not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where(failed[..., None, None] == 0, factor, torch.nan)
