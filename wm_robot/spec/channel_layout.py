"""Channel layout: what each channel of an observation is, in groups of neighbouring channels of one kind.

Everything that treats channels differently reads the layout: the model, the simulator, the gate and the evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.math.rotations import (
    ROTATION_SIZE,
    make_periods,
    orthonormalize_columns,
    subtract_angles,
    wrap_angle,
)


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Neighbouring channels of an observation that are of one kind."""

    kind: str
    """`position` or `velocity` of all joints, or a quantity of a floating base, such as `rotation`."""
    names: tuple[str, ...]
    wraps: tuple[bool, ...]
    """Whether each channel is an angle that wraps, in [-π, π)."""
    limits: tuple[float, ...]
    """Largest size of an ordinary reading of each channel."""
    is_rotation: bool = False
    """Whether the group is a rotation: the first two columns of its matrix."""
    is_optional: bool = False
    """Whether the robot goes on without a reading of it."""


@dataclass(frozen=True)
class ChannelLayout:
    """Layout of the channels of an observation."""

    groups: tuple[ChannelGroup, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group.names)

    @cached_property
    def wraps(self) -> tuple[int, ...]:
        """Indices of the angles that wrap."""
        return tuple(np.flatnonzero([wraps for group in self.groups for wraps in group.wraps]).tolist())

    @cached_property
    def rotations(self) -> tuple[int, ...]:
        """Index of the first channel of each rotation."""
        return tuple(self.find_channels(group.kind).start for group in self.groups if group.is_rotation)

    @cached_property
    def optional(self) -> tuple[int, ...]:
        """Indices of the channels that may be without a reading."""
        optional = [group.is_optional for group in self.groups for _ in group.names]
        return tuple(np.flatnonzero(optional).tolist())

    @cached_property
    def is_required(self) -> Bool[np.ndarray, "O"]:
        """Whether each channel must have a reading."""
        required = np.ones(len(self.names), bool)
        required[list(self.optional)] = False
        return required

    @cached_property
    def limits(self) -> Float[np.ndarray, "O"]:
        """Largest size of an ordinary reading of each channel."""
        return np.array([limit for group in self.groups for limit in group.limits])

    @cached_property
    def _periods(self) -> Float[np.ndarray, "O"]:
        return make_periods(len(self.names), self.wraps)

    @cached_property
    def slices(self) -> tuple[tuple[ChannelGroup, slice], ...]:
        """Each group with its channels."""
        ends = np.cumsum([len(group.names) for group in self.groups]).tolist()
        return tuple(
            (group, slice(end - len(group.names), end)) for group, end in zip(self.groups, ends, strict=True)
        )

    def find_channels(self, kind: str) -> slice:
        """Return the channels of the group of a kind."""
        return next(channels for group, channels in self.slices if group.kind == kind)

    def subtract(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the difference of two observations; angles that wrap take the shorter way round."""
        return subtract_angles(first, second, self._periods) if self.wraps else first - second

    def continue_angles(self, obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
        """Return the next observation with angles that continue those of `obs`, instead of wrapping.

        So the next observation minus a prediction, which continues them too, has no jump at ±π.
        """
        return obs + self.subtract(next_obs, obs) if self.wraps else next_obs

    def count_turns(self, obs: np.ndarray) -> np.ndarray:
        """Return observations at successive times, `… T O`, whose angles count turns instead of wrapping.

        An observation that is not finite leaves the turns as they are.
        """
        if not self.wraps:
            return obs
        counted = obs.copy()
        angles = obs[..., self.wraps].astype(np.float64)
        known = np.nan_to_num(angles, posinf=0.0, neginf=0.0)
        counted[..., self.wraps] = np.where(np.isfinite(angles), np.unwrap(known, axis=-2), angles)
        return counted

    def normalize(self, obs: np.ndarray) -> np.ndarray:
        """Return an observation with angles in [-π, π), and with rotations that are orthonormal."""
        if not self.wraps and not self.rotations:
            return obs
        obs = obs.copy()
        obs[..., self.wraps] = wrap_angle(obs[..., self.wraps])
        for start in self.rotations:
            columns = slice(start, start + ROTATION_SIZE)
            obs[..., columns] = orthonormalize_columns(obs[..., columns])
        return obs


def make_joint_group(
    kind: str, names: Sequence[str], *, wraps: Sequence[bool], limits: Sequence[float]
) -> ChannelGroup:
    """Make the group of one interface of all joints."""
    return ChannelGroup(
        kind=kind,
        names=tuple(f"{name}/{kind}" for name in names),
        wraps=tuple(each and kind == "position" for each in wraps),
        limits=tuple(limits),
    )
