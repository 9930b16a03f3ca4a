"""Forward kinematics of a chain of hinges and slides, on numpy arrays and torch tensors."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

Array = Any
"""Numpy array or torch tensor."""
IDENTITY = (1.0, 0.0, 0.0, 0.0)
"""Quaternion without rotation."""


@runtime_checkable
class JointFrame(Protocol):
    """Frame of a joint in the chain from a robot's base to its tip."""

    @property
    def kind(self) -> str:
        """`hinge` or `slide`."""

    @property
    def origin(self) -> tuple[float, float, float]:
        """Position of the joint in the frame of the link before it, in m."""

    @property
    def rotation(self) -> tuple[float, float, float, float]:
        """Rotation of its frame in that frame, a unit quaternion (w, x, y, z)."""

    @property
    def axis(self) -> tuple[float, float, float]:
        """Unit direction of the joint, in its own frame."""

    @property
    def zero(self) -> float:
        """Joint position at which the link after it is not moved, in rad (m)."""


def compute_tip_position(positions: Array, chain: Sequence[JointFrame], tip: Sequence[float]) -> Array:
    """Return the position of the tip in the frame of the robot base, in m, `… 3`.

    The chain is evaluated from the tip inwards, so a vector is rotated and never a matrix. The three parts of a
    rotation are one product, so that an exported ONNX graph is short.

    Args:
        positions: Position of each joint from the base outwards, in rad (m), `… J`.
        chain: Frame of each joint.
        tip: The point in the frame of the last link, in m.

    Raises:
        ValueError: If the numbers of positions and frames differ.

    Source: Rodrigues' rotation formula, by the parts along the axis and across it.
    """
    if positions.shape[-1] != len(chain):
        raise ValueError(f"{positions.shape[-1]} joint positions and {len(chain)} joint frames")
    # The long axis last: the factors are then contiguous in memory.
    columns = positions.reshape(-1, positions.shape[-1]).T
    if any(frame.zero for frame in chain):
        columns = columns - _make_like(columns, [frame.zero for frame in chain])[:, None]
    cos, sin = cosine(columns), sine(columns)
    vector = columns[:1] * 0 + _make_like(columns, tip)[:, None]
    for j, frame in reversed(list(enumerate(chain))):
        if frame.kind == "slide":
            vector = vector + _make_like(columns, frame.axis)[:, None] * columns[j : j + 1]
            parts, given = np.eye(3), vector
        else:
            (a, b, c), along = frame.axis, np.outer(frame.axis, frame.axis)
            turned = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
            parts = np.concatenate([along, np.eye(3) - along, turned], 1)
            given = concatenate(vector, vector * cos[j : j + 1], vector * sin[j : j + 1], axis=0)
        if tuple(frame.rotation) != IDENTITY:
            parts = compute_rotation_matrix(frame.rotation) @ parts
        vector = _make_like(columns, parts) @ given + _make_like(columns, frame.origin)[:, None]
    return vector.T.reshape(*positions.shape[:-1], 3)


def compute_rotation_matrix(quaternion: "Sequence[float] | np.ndarray") -> Float[np.ndarray, "3 3"]:
    """Return the rotation matrix of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def compute_quaternion(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4"]:
    """Return the unit quaternion (w, x, y, z) of a rotation matrix, with w not below 0.

    Source: Bar-Itzhack (2000), J. Guid. Control Dyn. 23(6): the largest eigenvector, for every angle.
    """
    r = rotation
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    q = np.linalg.eigh(k)[1][:, -1]
    return np.asarray(q if q[0] >= 0 else -q)


def multiply_quaternions(
    first: Float[np.ndarray, "4"], second: Float[np.ndarray, "4"]
) -> Float[np.ndarray, "4"]:
    """Return the product of two quaternions (w, x, y, z): the second rotation, then the first."""
    a, u, b, v = first[0], first[1:], second[0], second[1:]
    return np.concatenate([[a * b - u @ v], a * v + b * u + np.cross(u, v)])


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
