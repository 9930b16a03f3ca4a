"""Where a chain of hinges puts its tip. Works alike on numpy arrays and torch tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""A numpy array or a torch tensor."""


def tip_position(
    angles: Sequence[Array],
    origins: Sequence[Sequence[float]],
    axes: Sequence[Sequence[float]],
    tip: Sequence[float],
) -> list[Array]:
    """Position of the tip in the frame of the base, in m, as three arrays x, y, z.

    Works inwards from the tip, so only a vector is rotated, never a matrix. A hinge along x, y or z, as most are,
    leaves one of its numbers as it is and takes four products for the others.

    Args:
        angles: Angle of each hinge from the base outwards, in rad, arrays of one shape.
        origins: Position of each hinge in the frame of the link before it, in m.
        axes: Unit direction of each hinge.
        tip: The point in the frame of the last link, in m.

    Source: Rodrigues' rotation formula, by the parts along the axis and across it.
    """
    vector: list[Array] = list(tip)
    for angle, origin, axis in zip(reversed(angles), reversed(origins), reversed(axes), strict=True):
        (a, b, c), along = axis, np.outer(axis, axis)
        turned = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
        cos, sin = cosine(angle), sine(angle)
        vector = [
            _sum(
                (1, _sum(*zip(along[i].tolist(), vector, strict=True))),
                (1, _sum(*zip((np.eye(3) - along)[i].tolist(), vector, strict=True)) * cos),
                (1, _sum(*zip(turned[i].tolist(), vector, strict=True)) * sin),
                (1, origin[i]),
            )
            for i in range(3)
        ]
    return [angles[0] * 0 + part if isinstance(part, float | int) else part for part in vector]


def _sum(*terms: tuple[float, Array]) -> Array:
    """Sum of factor times array or number; zeros and ones cost nothing."""
    total: Array = 0.0
    for factor, array in terms:
        if factor == 0 or (isinstance(array, float) and array == 0):
            continue
        part = array if factor == 1 else array * factor
        total = part if isinstance(total, float) and total == 0 else total + part
    return total


def cosine(angle: Array) -> Array:
    """Cosine of an angle in rad."""
    return np.cos(angle) if isinstance(angle, np.ndarray | np.generic) else angle.cos()


def sine(angle: Array) -> Array:
    """Sine of an angle in rad."""
    return np.sin(angle) if isinstance(angle, np.ndarray | np.generic) else angle.sin()


def joined(parts: Sequence[Array], rest: Array) -> Array:
    """Arrays `…` as columns, and the columns of `… N` after them."""
    columns = [part[..., None] for part in parts]
    if isinstance(rest, np.ndarray):
        return np.concatenate([*columns, rest], -1)
    import torch  # There is a tensor, so there is torch.

    return torch.cat([*columns, rest], -1)
