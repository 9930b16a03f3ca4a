"""Pullbacks: equal to the gradients of autograd."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")
from torch import nn

from wm_robot.math.pullback import pullback


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 7),
        nn.SiLU(),
        nn.LayerNorm(5),
        nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 6), nn.SiLU(), nn.Linear(6, 3)),
    ],
)
def test_the_jacobian_is_autograds(layer):
    torch.manual_seed(0)
    layer = layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(4, 2, 5, dtype=torch.float64)
    y, pull = pullback(layer, x)
    torch.testing.assert_close(y, layer(x))
    units = torch.eye(y.shape[-1], dtype=torch.float64)[:, None, None].expand(-1, 4, 2, -1)
    for i in range(4):
        for j in range(2):
            expected = torch.autograd.functional.jacobian(layer, x[i, j])
            torch.testing.assert_close(pull(units)[:, i, j], expected)


def test_a_layer_that_is_not_written_out_is_refused():
    with pytest.raises(TypeError, match="no gradient is written out for Tanh"):
        pullback(nn.Tanh(), torch.zeros(1, 5))
