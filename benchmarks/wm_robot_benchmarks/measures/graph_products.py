"""Matrix products of an ONNX model, with their shapes."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from wm_robot.errors import MissingExtraError

PRODUCTS = ("MatMul", "Gemm")


class MatrixProduct(NamedTuple):
    """Matrix product in an ONNX model: `rows × inner` by `inner × columns`."""

    node: str
    rows: int
    inner: int
    columns: int
    is_weight: bool
    """Whether its right side is a weight and not a computed value."""

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns


def list_matrix_products(content: bytes) -> list[MatrixProduct]:
    """List the products of an ONNX model with fixed shapes, in its order.

    Raises:
        MissingExtraError: If onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("wm-robot bench onboard", "learn") from error
    return list(_iterate_products(onnx.shape_inference.infer_shapes(onnx.load_from_string(content))))


def _iterate_products(model: Any) -> Iterator[MatrixProduct]:
    graph = model.graph
    fixed = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    shapes = fixed | {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
    for node in graph.node:
        if node.op_type in PRODUCTS:
            left, right = (shapes[name] for name in node.input[:2])
            left = left[::-1] if _read_option(node, "transA") else left
            right = right[::-1] if _read_option(node, "transB") else right
            # Weights of the lifetime state have a batch axis; an ONNX model has a batch of one.
            yield MatrixProduct(node.name, math.prod(left[:-1]), left[-1], right[-1], node.input[1] in fixed)


def _read_option(node: Any, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)
