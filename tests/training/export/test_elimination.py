"""Whitening by unrolled elimination equals that of torch, also for more rows than a block has."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.math.cholesky import whiten
from wm_robot.training.export.elimination import BLOCK_ROWS, ELIMINATIONS

unroll_whitened = ELIMINATIONS[torch.ops.wm_robot.whitened.default]


def make_system(size: int, columns: int = 5):
    generator = torch.Generator().manual_seed(size)
    half, right = (torch.randn(3, size, n, generator=generator, dtype=torch.float64) for n in (size, columns))
    return half @ half.mT + 0.1 * torch.eye(size, dtype=torch.float64), right


@pytest.mark.parametrize("size", [1, 2, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS, 3 * BLOCK_ROWS + 5])
def test_elimination_whitens_as_torch_does(size):
    matrix, right = make_system(size)
    torch.testing.assert_close(unroll_whitened(matrix, right), whiten(matrix, right))


def test_a_matrix_that_is_not_positive_definite_is_not_finite():
    matrix, right = make_system(BLOCK_ROWS + 3)
    matrix[1] = -matrix[1]
    white, deviation = unroll_whitened(matrix, right)
    assert not torch.isfinite(white[1]).all(-1).any() and not torch.isfinite(deviation[1]).any()
    assert torch.isfinite(white[[0, 2]]).all()
