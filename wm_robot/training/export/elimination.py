"""Elimination: linear algebra of which ONNX has no operation, as unrolled elimination of rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Registers the operator that is replaced below; memory families are loaded one by one.
import wm_robot.math.cholesky  # noqa: F401

BLOCK_ROWS = 16
"""Most rows that are eliminated one by one. Of 60 rows with 215 columns, eight times: 0.7 ms; with 12 and 20 as well,
and with 6 it is 1.0 ms."""


def _unroll_whitened(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Replace `wm_robot.math.cholesky.whiten`.

    Few rows are eliminated one by one. Of many, L⁻¹ is computed block by block, then one product is left.
    """
    below = matrix.shape[-1]
    if below <= BLOCK_ROWS:
        return _eliminate_rows(matrix, right)
    unit = torch.eye(below, dtype=matrix.dtype).expand_as(matrix)
    rest, rows, deviations = torch.cat([matrix, unit], -1), [], []
    for size in _split_evenly(below):
        block, others = rest[..., :size, :size], rest[..., :size, size:]
        inverse, deviation = _eliminate_rows(block, unit[..., :size, :size])
        white = inverse @ others
        below -= size
        rows.append(white[..., below:])
        deviations.append(deviation)
        if below:
            # The remaining matrix is symmetric.
            rest = rest[..., size:, size:] - white[..., :below].mT @ white
    return torch.cat(rows, -2) @ right, torch.cat(deviations, -1)


def _split_evenly(rows: int) -> Sequence[int]:
    """Return the sizes of blocks of at most `BLOCK_ROWS` rows."""
    number = -(-rows // BLOCK_ROWS)
    return [(rows + i) // number for i in range(number)]


def _eliminate_rows(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return L⁻¹ B and the diagonal of L, by unrolled elimination.

    Completed columns stay: for about 12 rows their arithmetic is cheaper than a slice. Rows are divided by the roots
    of their pivots at the end, all at once.
    """
    size, rows, pivots = matrix.shape[-1], [], []
    rest = torch.cat([matrix, right], -1)
    for j in range(size):
        row, column = rest[..., j : j + 1, :], rest[..., j : j + 1]
        pivot = row[..., j : j + 1]
        rows.append(row)
        pivots.append(pivot)
        if j + 1 < size:
            # The remaining matrix is symmetric.
            rest = rest - column @ (row / pivot)
    deviation = torch.cat(pivots, -2).sqrt()
    return torch.cat(rows, -2)[..., size:] / deviation, deviation[..., 0]


def _unroll_cholesky(
    matrix: Tensor, *, upper: bool = False, check_errors: bool = False
) -> tuple[Tensor, Tensor]:
    """Replace `linalg.cholesky_ex`; a failure gives NaN."""
    assert not upper
    columns, rest = [], matrix
    for j in range(matrix.shape[-1]):
        column = rest[..., :1] * torch.rsqrt(rest[..., :1, :1])
        columns.append(nn.functional.pad(column, (0, 0, j, 0)))
        below = column[..., 1:, :]
        rest = rest[..., 1:, 1:] - below * below.mT
    return torch.cat(columns, -1), torch.zeros(matrix.shape[:-2], dtype=torch.int32)


def _unroll_triangular_solve(
    factor: Tensor, right: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """Replace `linalg.solve_triangular`."""
    assert left
    if upper:
        turned = factor.flip(-2, -1), right.flip(-2)
        return _unroll_triangular_solve(*turned, upper=False, unitriangular=unitriangular).flip(-2)
    rows, rest = [], right
    for j in range(factor.shape[-1]):
        row = rest[..., :1, :]
        if not unitriangular:
            row = row / factor[..., j : j + 1, j : j + 1]
        rows.append(row)
        rest = rest[..., 1:, :] - factor[..., j + 1 :, j : j + 1] * row
    return torch.cat(rows, -2)


def _unroll_cholesky_solve(right: Tensor, factor: Tensor, upper: bool = False) -> Tensor:
    """Replace `cholesky_solve`."""
    assert not upper
    return _unroll_triangular_solve(
        factor.mT, _unroll_triangular_solve(factor, right, upper=False), upper=True
    )


aten = torch.ops.aten
ELIMINATIONS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.wm_robot.whitened.default: _unroll_whitened,
    aten.linalg_cholesky_ex.default: _unroll_cholesky,
    aten.linalg_solve_triangular.default: _unroll_triangular_solve,
    aten.cholesky_solve.default: _unroll_cholesky_solve,
}
"""Operation → replacement."""
