"""Observed channels of a world model: angles that wrap enter it as cosine and sine, and rotations stay rotations."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wm_robot.math.rotations import (
    IDENTITY_COLUMNS,
    ROTATION_SIZE,
    make_periods,
    orthonormalize_columns,
    subtract_angles,
)


class ObservedChannels(nn.Module):
    """Observed channels: what the model does with channels that are no plain numbers. It has no weights.

    A model of plain channels computes exactly what it would compute without this class.
    """

    periods: Tensor
    wrapped: Tensor
    plain: Tensor
    """1 for a channel that enters the model as it is, 0 for one that wraps, `O`."""
    identity: Tensor

    def __init__(self, size: int, *, wraps: Sequence[int], rotations: Sequence[int]):
        super().__init__()
        self.size, self.wraps, self.rotations = size, tuple(wraps), tuple(rotations)
        periods = torch.from_numpy(make_periods(size, wraps))
        for name, value in (
            ("periods", periods),
            ("wrapped", torch.tensor(self.wraps, dtype=torch.int64)),
            ("plain", (periods == 0).float()),
            ("identity", torch.tensor(IDENTITY_COLUMNS)),
        ):
            self.register_buffer(name, value, persistent=False)

    @property
    def has_special(self) -> bool:
        """Whether any channel is no plain number."""
        return bool(self.wraps or self.rotations)

    @property
    def num_features(self) -> int:
        """Number of inputs that the channels give."""
        return self.size + 2 * len(self.wraps)

    def subtract(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the difference of two observations; angles that wrap take the shorter way round."""
        return subtract_angles(first, second, self.periods) if self.wraps else first - second

    def expand(self, z: Tensor) -> Tensor:
        """Return the inputs of a latent, or of its observed part: cosine and sine in place of angles that wrap."""
        if not self.wraps:
            return z
        angles = z.index_select(-1, self.wrapped)
        y, context = z[..., : self.size], z[..., self.size :]
        return torch.cat([y * self.plain, angles.cos(), angles.sin(), context], -1)

    def restore_rotations(self, values: Tensor, *, normalised: bool) -> Tensor:
        """Return channels with the nearest rotations.

        Args:
            normalised: Whether the channels are those of a latent, where no rotation is zero.
        """
        for start in self.rotations:
            columns = values[..., start : start + ROTATION_SIZE]
            rotation = orthonormalize_columns(columns + self.identity if normalised else columns)
            rotation = rotation - self.identity if normalised else rotation
            values = torch.cat([values[..., :start], rotation, values[..., start + ROTATION_SIZE :]], -1)
        return values

    def set_fixed_scales(self, mean: np.ndarray, std: np.ndarray, change_std: np.ndarray) -> None:
        """Replace the scales, `O`, of channels that are not whitened: an angle and a rotation have their own.

        The six numbers of a rotation have one scale of their change.
        """
        mean[list(self.wraps)], std[list(self.wraps)] = 0.0, 1.0
        for start in self.rotations:
            columns = slice(start, start + ROTATION_SIZE)
            mean[columns], std[columns] = IDENTITY_COLUMNS, 1.0
            change_std[columns] = np.sqrt(np.square(change_std[columns]).mean())
