"""Inverse kinematics of a chain of hinges and slides: joint positions for a tip position, several starts at once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wm_robot.math.kinematics import JointFrame, compute_rotation_matrix

DAMPING = 1e-3
"""Smallest damping of a step, in m."""
ERROR_DAMPING = 0.2
"""Damping for each m of tip error: far from the goal a step follows the gradient."""
MAX_STEP = 0.4
"""Largest change of a joint in one iteration, in rad (m)."""


class TipKinematics:
    """Kinematics of the tip of a chain: its position and Jacobian, and damped least-squares steps to a goal.

    The same position as `compute_tip_position`, several times faster for a few rows, since all constants of the chain
    are prepared.
    """

    def __init__(self, chain: Sequence[JointFrame], tip: Sequence[float], limits: Float[np.ndarray, "J 2"]):
        """Args:
        limits: Smallest and largest position of each joint of the chain, in rad (m).
        """
        self.low, self.high = np.ascontiguousarray(np.asarray(limits, np.float64).T)
        self._tip = np.asarray(tip, np.float64)
        self._zero = np.array([frame.zero for frame in chain], np.float64)
        self._slides = [frame.kind == "slide" for frame in chain]
        self._axis = [np.asarray(frame.axis, np.float64) for frame in chain]
        fixed = [compute_rotation_matrix(frame.rotation) for frame in chain]
        # Rotation about an axis: along + cos · across + sin · turned.
        along = [
            np.outer(a, a) if not s else np.eye(3) for a, s in zip(self._axis, self._slides, strict=True)
        ]
        turned = [_make_cross_matrix(axis) for axis in self._axis]
        self._parts = np.stack(
            [
                np.stack([r @ a, r @ (np.eye(3) - a), r @ c * (not s)])
                for r, a, c, s in zip(fixed, along, turned, self._slides, strict=True)
            ],
            1,
        )
        """Rotation of each joint, constant, cosine and sine part, `3 J 3 3`."""
        self._cross = np.stack(turned)
        self._origin = np.stack([np.asarray(frame.origin, np.float64) for frame in chain])

    def compute_tip(
        self, positions: Float[np.ndarray, "N J"]
    ) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3 J"]]:
        """Compute the tip position in the frame of the base, in m, and its slopes in the joint positions."""
        shifted = positions - self._zero
        cos, sin = np.cos(shifted)[..., None, None], np.sin(shifted)[..., None, None]
        rotation = self._parts[0] + cos * self._parts[1] + sin * self._parts[2]
        count, joints = positions.shape
        # From the tip inwards: the first column is the tip, the others are the slopes of the joints so far.
        columns = np.zeros((count, 3, 1 + joints))
        columns[:, :, 0] = self._tip
        for j in reversed(range(joints)):
            if self._slides[j]:
                columns[:, :, 0] += self._axis[j] * shifted[:, j, None]
                columns[:, :, 1 + j] = self._axis[j]
            else:
                columns[:, :, 1 + j] = columns[:, :, 0] @ self._cross[j].T
            columns = rotation[:, j] @ columns
            columns[:, :, 0] += self._origin[j]
        return columns[:, :, 0], columns[:, :, 1:]

    def step(
        self, positions: Float[np.ndarray, "N J"], goals: Float[np.ndarray, "M 3"]
    ) -> tuple[Float[np.ndarray, "N J"], Float[np.ndarray, "N"]]:
        """Compute one damped least-squares step towards goals, within the limits.

        A joint at a limit that the step would cross stays, and the others take its part.

        Args:
            goals: One for each row, or one for all.

        Returns:
            New positions, and the tip error before the step, in m.

        Source: Nakamura and Hanafusa (1986), J. Dyn. Sys. 108(3); limits by an active set.
        """
        tip, slopes = self.compute_tip(positions)
        off = goals - tip
        error = np.sqrt((off * off).sum(1))
        damping = (DAMPING + ERROR_DAMPING * error) ** 2
        change = _damped_step(slopes, off, damping)
        blocked = ((positions <= self.low) & (change < 0)) | ((positions >= self.high) & (change > 0))
        if blocked.any():
            slopes = np.where(blocked[:, None], 0.0, slopes)
            change = _damped_step(slopes, off, damping)
        change *= np.minimum(1.0, MAX_STEP / np.maximum(np.abs(change).max(1, keepdims=True), 1e-12))
        return np.minimum(np.maximum(positions + change, self.low), self.high), error


def _damped_step(slopes: np.ndarray, off: np.ndarray, damping: np.ndarray) -> np.ndarray:
    square = slopes @ slopes.swapaxes(1, 2)
    square[:, range(3), range(3)] += damping[:, None]
    return (slopes.swapaxes(1, 2) @ np.linalg.solve(square, off[..., None]))[..., 0]


def _make_cross_matrix(axis: np.ndarray) -> Float[np.ndarray, "3 3"]:
    a, b, c = axis
    return np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
