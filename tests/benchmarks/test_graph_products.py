"""The products of a graph are counted with their shapes."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from torch import nn

from wm_robot.training.export.torch_exporter import export_function
from wm_robot_benchmarks.measures.graph_products import list_matrix_products

ROWS, INNER, HIDDEN, OUT = 32, 24, 40, 8


class Small(nn.Module):
    """A wide layer, one without a bias, one whose weight is computed, and one of a single row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.plain = nn.Linear(INNER, HIDDEN), nn.Linear(HIDDEN, OUT, bias=False)
        self.once = nn.Linear(OUT, OUT)

    def forward(self, x, s, w):
        h = torch.tanh(self.wide(x))
        return self.plain(h[None])[0] + h @ w + self.once(s)


def test_every_product_is_counted_with_its_shape():
    given = {"x": torch.randn(ROWS, INNER), "s": torch.randn(1, OUT), "w": torch.randn(HIDDEN, OUT)}
    model = Small().eval().requires_grad_(False)
    counted = list_matrix_products(export_function(model, model.forward, given, ["y"]))
    assert {(p.rows, p.inner, p.columns) for p in counted} == {
        (ROWS, INNER, HIDDEN),
        (ROWS, HIDDEN, OUT),
        (1, OUT, OUT),
    }
    flops = 2 * (ROWS * INNER * HIDDEN + 2 * ROWS * HIDDEN * OUT + OUT * OUT)
    assert sum(p.flops for p in counted) == flops
