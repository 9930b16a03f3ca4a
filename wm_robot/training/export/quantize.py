"""The products of a graph: counted, and done in eight bits where their weights are fixed."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from wm_robot.errors import MissingExtraError

BITS = 8
ROWS = 16
"""Rows from which on a product is worth its quantisation. What is done once for a state has one, and stays exact."""
PRODUCTS = ("MatMul", "Gemm")
VENDOR = "com.microsoft"


class Product(NamedTuple):
    """A product of matrices in a graph: `rows × inner` by `inner × columns`."""

    node: str
    rows: int
    inner: int
    columns: int
    fixed: bool
    """Whether its right side is a weight, not something computed."""

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns


def products(content: bytes) -> list[Product]:
    """Every product of a graph whose shapes are fixed, in its order.

    Raises:
        MissingExtraError: If onnx is not installed.
    """
    onnx = _onnx()
    return list(_products(onnx.shape_inference.infer_shapes(onnx.load_from_string(content))))


def quantized(content: bytes, *, bits: int = BITS) -> bytes:
    """The same graph with its large products in integers: weights by column, activations by what they are.

    Products of what is computed keep their bits, and with them what the model expects of the sensors, which a life
    corrects by a residual.

    Args:
        bits: That weights are rounded to; they are stored as eight in any case.

    Raises:
        MissingExtraError: If onnx is not installed.
    """
    onnx = _onnx()
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(_folded(content)))
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    large = {product.node for product in _products(model) if product.fixed and product.rows >= ROWS}
    made: dict[str, Any] = {}
    for node in [node for node in graph.node if node.name in large]:
        turned, weight, bias = _option(node, "transB"), node.input[1], _bias(node, graph, weights)
        if bias is None:
            continue
        names = [f"{weight}.{part}" for part in ("int", "scale", "zero")]
        if names[0] not in made:
            value = onnx.numpy_helper.to_array(weights[weight])
            made |= dict(zip(names, _rounded(value.T if turned else value, bits), strict=True))
        added = [bias.vector] if bias.vector else []
        target = bias.add.output[0] if bias.add is not None else node.output[0]
        if bias.add is not None:
            graph.node.remove(bias.add)
        node.CopyFrom(
            onnx.helper.make_node(
                "DynamicQuantizeMatMul", [node.input[0], *names, *added], [target], node.name, domain=VENDOR
            )
        )
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in made.items())
    used = {name for node in graph.node for name in node.input}
    for name in weights.keys() - used:
        graph.initializer.remove(weights[name])
    if VENDOR not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(VENDOR, 1))
    return bytes(model.SerializeToString())


class _Bias(NamedTuple):
    """What is added to a product: a vector, if any, and the node that adds it where that is one of its own."""

    vector: str
    add: Any = None


def _bias(node: Any, graph: Any, weights: dict[str, Any]) -> _Bias | None:
    """None for a product that adds something else."""
    if node.op_type == "Gemm":
        if len(node.input) < 3:
            return _Bias("")
        vector = node.input[2]
        return _Bias(vector) if vector in weights and len(weights[vector].dims) == 1 else None
    after = [other for other in graph.node if node.output[0] in other.input]
    if len(after) == 1 and after[0].op_type == "Add":
        other = next(name for name in after[0].input if name != node.output[0])
        if other in weights and len(weights[other].dims) == 1:
            return _Bias(other, after[0])
    return _Bias("")


def _rounded(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers, scale and zero of each column."""
    most = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(weight).max(0), 1e-12).astype(np.float32) / most
    return np.rint(weight / scale).astype(np.int8), scale, np.zeros(weight.shape[1], np.int8)


def _folded(content: bytes) -> bytes:
    """The graph with all that is fixed in it computed: a weight that it turns or cuts is none to look at."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("wm-robot export --int8", "learn") from error
    return onnx


def _products(model: Any) -> Iterator[Product]:
    graph = model.graph
    fixed = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    shapes = fixed | {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
    for node in graph.node:
        if node.op_type in PRODUCTS:
            left, right = (shapes[name] for name in node.input[:2])
            left = left[::-1] if _option(node, "transA") else left
            right = right[::-1] if _option(node, "transB") else right
            # A life's own weights have an axis for the life; there is one life in a graph.
            yield Product(node.name, math.prod(left[:-1]), left[-1], right[-1], node.input[1] in fixed)


def _option(node: Any, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)
