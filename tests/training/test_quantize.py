"""Products are counted as they are, and rounded where their weights are fixed."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from torch import nn

from wm_robot.model.onnx_session import Graph
from wm_robot.training.export.quantize import products, quantized
from wm_robot.training.export.torch_exporter import exported

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


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(1)
    given = {"x": torch.randn(ROWS, INNER), "s": torch.randn(1, OUT), "w": torch.randn(HIDDEN, OUT)}
    model = Small().eval().requires_grad_(False)
    return model, given, exported(model, model.forward, given, ["y"])


def run(content, given):
    return Graph(content, "products")({}, {name: value.numpy() for name, value in given.items()})["y"]


def rounded(x, weight):
    """x W of activations of eight bits without a sign and weights of seven with one, as the operator's page says."""
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    unit = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / unit), 0, 255)
    scale = np.abs(weight).max(1) / 127
    exact = np.rint(weight / scale[:, None]) * scale[:, None]
    return (np.clip(np.rint(x / unit) + zero, 0, 255) - zero) * unit @ exact.T


def test_every_product_is_counted_with_its_shape(graph):
    found = {(p.rows, p.inner, p.columns) for p in products(graph[2])}
    assert found == {(ROWS, INNER, HIDDEN), (ROWS, HIDDEN, OUT), (1, OUT, OUT)}
    flops = 2 * (ROWS * INNER * HIDDEN + 2 * ROWS * HIDDEN * OUT + OUT * OUT)
    assert sum(p.flops for p in products(graph[2])) == flops


def test_the_rounded_graph_computes_what_its_integers_say(graph):
    model, given, content = graph
    x, s, w = (value.numpy() for value in given.values())
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    h = np.tanh(rounded(x, weights["wide.weight"]) + weights["wide.bias"])
    y = rounded(h, weights["plain.weight"]) + h @ w + s @ weights["once.weight"].T + weights["once.bias"]
    found = run(quantized(content), given)
    np.testing.assert_allclose(found, y, atol=2e-3)
    assert abs(found - run(content, given)).max() > 4e-3


def test_fewer_bits_are_further_away(graph):
    _, given, content = graph
    exact = run(content, given)
    apart = [np.square(run(quantized(content, bits=bits), given) - exact).mean() for bits in (8, 6, 4)]
    assert apart[0] * 2 < apart[1] and apart[1] * 4 < apart[2]


def test_what_is_done_once_or_computed_keeps_its_bits(graph):
    import onnx

    nodes = onnx.load_from_string(quantized(graph[2])).graph.node
    assert sum(node.op_type == "DynamicQuantizeMatMul" for node in nodes) == 2
    assert sum(node.op_type in ("MatMul", "Gemm") for node in nodes) == 2
