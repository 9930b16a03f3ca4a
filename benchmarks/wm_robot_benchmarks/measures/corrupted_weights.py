"""Corrupted weights: ONNX models with changed weights, which the export check must reject."""

from collections.abc import Callable

import numpy as np

BITS = 3
"""Bits of rounded weights."""


def change_weights(content: bytes, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """Return an ONNX model with its largest weight matrix changed."""
    import onnx

    graph = onnx.load_from_string(content)
    weight = max((w for w in graph.graph.initializer if len(w.dims) == 2), key=lambda w: np.prod(w.dims))
    changed = change(onnx.numpy_helper.to_array(weight))
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    return bytes(graph.SerializeToString())


def round_weights(weight: np.ndarray) -> np.ndarray:
    """Round weights to `BITS` bits by column."""
    unit = np.abs(weight).max(0).clip(1e-12) / (2 ** (BITS - 1) - 1)
    return (np.rint(weight / unit) * unit).astype(weight.dtype)


def shuffle_rows(weight: np.ndarray) -> np.ndarray:
    """Shuffle the rows of weights."""
    return np.random.default_rng(0).permutation(weight, axis=0)
