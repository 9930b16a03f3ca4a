"""Angles that wrap, and rotations as six numbers, on numpy arrays and torch tensors."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wm_robot.math.kinematics import Array, concatenate, sqrt

TURN = 2 * math.pi
ROTATION_SIZE = 6
"""Numbers of a rotation: the first two columns of its matrix."""
IDENTITY_COLUMNS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""These six numbers without a rotation."""
SMALLEST_LENGTH = 1e-6
"""Length below which a column has no direction."""


def wrap_angle(angle: Array) -> Array:
    """Return the equal angle in [-π, π), in rad."""
    return angle - TURN * _floor(angle / TURN + 0.5)


def subtract_angles(first: Array, second: Array, periods: Array) -> Array:
    """Return `first - second`, `… O`, where channels that wrap take the shorter way round.

    Args:
        periods: 2π for a channel that wraps, 0 for any other, `O`.
    """
    difference = first - second
    return difference - periods * _floor(difference / TURN + 0.5)


def make_periods(size: int, wraps: Sequence[int]) -> Float[np.ndarray, "O"]:
    """Return the periods of `size` channels for `subtract_angles`, float32.

    Args:
        wraps: Indices of the channels that wrap.
    """
    periods = np.zeros(size, np.float32)
    periods[list(wraps)] = TURN
    return periods


def orthonormalize_columns(columns: Array) -> Array:
    """Return the nearest first two columns of a rotation matrix, `… 6`, by Gram-Schmidt.

    Source: the six-dimensional representation of Zhou et al. (2019), arXiv:1812.07035, which is continuous.
    """
    x = _normalize(columns[..., :3])
    y = columns[..., 3:]
    return concatenate(x, _normalize(y - (x * y).sum(-1)[..., None] * x))


def compute_matrix(columns: Array) -> Array:
    """Return the rotation matrix of orthonormal columns `… 6`, as its three columns one after another, `… 9`."""
    x, y = columns[..., :3], columns[..., 3:]
    a, b, c = (x[..., i : i + 1] for i in range(3))
    d, e, f = (y[..., i : i + 1] for i in range(3))
    return concatenate(x, y, b * f - c * e, c * d - a * f, a * e - b * d)


def _normalize(vector: Array) -> Array:
    return vector / sqrt((vector**2).sum(-1) + SMALLEST_LENGTH**2)[..., None]


def _floor(x: Array) -> Array:
    return np.floor(x) if isinstance(x, np.ndarray | np.generic) else x.floor()
