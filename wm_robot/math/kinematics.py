"""Forward kinematics of a chain of hinges, on numpy arrays and torch tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""Numpy array or torch tensor."""


def compute_tip_position(
    angles: Array,
    origins: Sequence[Sequence[float]],
    axes: Sequence[Sequence[float]],
    tip: Sequence[float],
) -> Array:
    """Return the position of the tip in the frame of the robot base, in m, `… 3`.

    The chain is evaluated from the tip inwards, so a vector is rotated and never a matrix. The three parts of a
    rotation are one product, so that an exported ONNX graph is short.

    Args:
        angles: Angle of each hinge from the base outwards, in rad, `… J`.
        origins: Position of each hinge in the frame of the link before it, in m.
        axes: Unit direction of each hinge.
        tip: The point in the frame of the last link, in m.

    Raises:
        ValueError: If the numbers of angles, origins and axes differ.

    Source: Rodrigues' rotation formula, by the parts along the axis and across it.
    """
    if not angles.shape[-1] == len(origins) == len(axes):
        raise ValueError(f"{angles.shape[-1]} angles, {len(origins)} origins and {len(axes)} axes")
    # The long axis last: the factors are then contiguous in memory.
    columns = angles.reshape(-1, angles.shape[-1]).T
    cos, sin = cosine(columns), sine(columns)
    vector = columns[:1] * 0 + _make_like(columns, tip)[:, None]
    for j in reversed(range(len(axes))):
        (a, b, c), along = axes[j], np.outer(axes[j], axes[j])
        turned = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
        parts = np.concatenate([along, np.eye(3) - along, turned], 1)
        given = concatenate(vector, vector * cos[j : j + 1], vector * sin[j : j + 1], axis=0)
        vector = _make_like(columns, parts) @ given + _make_like(columns, origins[j])[:, None]
    return vector.T.reshape(*angles.shape[:-1], 3)


def cosine(angle: Array) -> Array:
    """Return the cosine of an angle in rad."""
    return np.cos(angle) if _is_numpy(angle) else angle.cos()


def sine(angle: Array) -> Array:
    """Return the sine of an angle in rad."""
    return np.sin(angle) if _is_numpy(angle) else angle.sin()


def sqrt(x: Array) -> Array:
    """Return the square root. ONNX has an operation for it; a power of 0.5 becomes a logarithm and an exponential."""
    return np.sqrt(x) if _is_numpy(x) else x.sqrt()


def concatenate(*parts: Array, axis: int = -1) -> Array:
    """Return the concatenation of arrays along an axis."""
    if _is_numpy(parts[0]):
        return np.concatenate(parts, axis)
    import torch  # The argument is a tensor, so torch is installed.

    return torch.cat(parts, axis)


def _make_like(x: Array, values: Any) -> Array:
    """Return numbers as an array of the same library and type as another one."""
    return np.asarray(values, x.dtype) if _is_numpy(x) else x.new_tensor(np.asarray(values).tolist())


def _is_numpy(x: Array) -> bool:
    return isinstance(x, np.ndarray | np.generic)
