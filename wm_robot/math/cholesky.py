"""Cholesky factors for a control loop: NaN instead of an exception."""

import torch
from jaxtyping import Float
from torch import Tensor, library


@library.custom_op("wm_robot::whitened", mutates_args=())
def whiten(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return L⁻¹ B and the diagonal of L, for L Lᵀ, `… K K`, and columns B, `… K N`; NaN as in `cholesky_or_nan`.

    A custom operation, so that an exported ONNX graph can compute both in one elimination.
    """
    factor = cholesky_or_nan(matrix)
    white = torch.linalg.solve_triangular(factor, right, upper=False)
    return white, factor.diagonal(dim1=-2, dim2=-1).clone()


def cholesky_or_nan(matrix: Float[Tensor, "... K K"]) -> Float[Tensor, "... K K"]:
    """Return the lower factor; NaN where rounding left the matrix not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where(failed[..., None, None] == 0, factor, torch.nan)
