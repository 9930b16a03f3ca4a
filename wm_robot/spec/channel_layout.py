"""Channel layout: what each channel of an observation is, in groups of neighbouring channels of one kind.

Everything that treats channels differently reads the layout: the model, the simulator, the gate and the evaluation.
"""

import math
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

JOINTS = "joints"
"""Name of the sensor that all joint interfaces are of."""


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Neighbouring channels of an observation that are of one kind."""

    kind: str
    """Interface of all joints, such as `position`; quantity of a floating base, such as `rotation`; or sensor and
    field, such as `imu/orientation`."""
    names: tuple[str, ...]
    wraps: tuple[bool, ...]
    """Whether each channel is an angle that wraps, in [-π, π)."""
    limits: tuple[float, ...]
    """Largest size of an ordinary reading of each channel."""
    is_rotation: bool = False
    """Whether the group is a rotation: the first two columns of its matrix."""
    sensor: str = JOINTS
    """Sensor that it is of: `joints`, `base`, or the name of a sensor. Groups of one sensor are neighbours."""
    is_required: bool = True
    """Whether the robot may not be driven without it."""
    max_age: float = math.inf
    """Age up to which a reading is valid, in s."""


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
        return tuple(np.flatnonzero(~self.is_required).tolist())

    @cached_property
    def limits(self) -> Float[np.ndarray, "O"]:
        """Largest size of an ordinary reading of each channel."""
        return np.array([limit for group in self.groups for limit in group.limits], float)

    @cached_property
    def sensors(self) -> tuple[str, ...]:
        """Sensor of each channel."""
        return tuple(group.sensor for group in self.groups for _ in group.names)

    @cached_property
    def sensor_names(self) -> tuple[str, ...]:
        """Every sensor once, in the order of the channels."""
        return tuple(dict.fromkeys(self.sensors))

    @cached_property
    def is_required(self) -> Bool[np.ndarray, "O"]:
        """Whether the robot may not be driven without each channel."""
        return np.array([group.is_required for group in self.groups for _ in group.names], bool)

    @cached_property
    def max_ages(self) -> Float[np.ndarray, "O"]:
        """Age up to which a reading of each channel is valid, in s."""
        return np.array([group.max_age for group in self.groups for _ in group.names], float)

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

    def find_sensor(self, name: str) -> slice:
        """Return the channels of a sensor: of `joints`, `base`, or of one by its name."""
        first = self.sensors.index(name)
        return slice(first, first + self.sensors.count(name))

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
    kind: str, names: Sequence[str], *, wraps: Sequence[bool], limits: Sequence[float], max_age: float
) -> ChannelGroup:
    """Make the group of one interface of all joints."""
    return ChannelGroup(
        kind=kind,
        names=tuple(f"{name}/{kind}" for name in names),
        wraps=tuple(each and kind == "position" for each in wraps),
        limits=tuple(limits),
        max_age=max_age,
    )
