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

    Works inwards from the tip, so only a vector is rotated, never a matrix: 15 products a hinge.

    Args:
        angles: Angle of each hinge from the base outwards, in rad, arrays of one shape.
        origins: Position of each hinge in the frame of the link before it, in m.
        axes: Unit direction of each hinge.
        tip: The point in the frame of the last link, in m.

    Source: Rodrigues' rotation formula.
    """
    x, y, z = (angles[0] * 0 + value for value in tip)
    for angle, origin, (a, b, c) in zip(reversed(angles), reversed(origins), reversed(axes), strict=True):
        cos, sin = cosine(angle), sine(angle)
        along = _sum((a, x), (b, y), (c, z)) * (1 - cos)
        x, y, z = (
            _sum((1, x * cos), (1, _sum((b, z), (-c, y)) * sin), (a, along)) + origin[0],
            _sum((1, y * cos), (1, _sum((c, x), (-a, z)) * sin), (b, along)) + origin[1],
            _sum((1, z * cos), (1, _sum((a, y), (-b, x)) * sin), (c, along)) + origin[2],
        )
    return [x, y, z]


def _sum(*terms: tuple[float, Array]) -> Array:
    """Sum of factor times array. Most axes are along x, y or z: their zeros and ones cost nothing."""
    total: Array = None
    for factor, array in terms:
        if factor == 0:
            continue
        part = array if factor == 1 else array * factor
        total = part if total is None else total + part
    return 0.0 if total is None else total


def cosine(angle: Array) -> Array:
    """Cosine of an angle in rad."""
    return np.cos(angle) if isinstance(angle, np.ndarray | np.generic) else angle.cos()


def sine(angle: Array) -> Array:
    """Sine of an angle in rad."""
    return np.sin(angle) if isinstance(angle, np.ndarray | np.generic) else angle.sin()
