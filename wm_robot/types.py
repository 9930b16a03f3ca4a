"""Data types of experience: observation, step, episode, trajectory batch, and the fault of a robot."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from wm_robot.errors import SpecError

Value = TypeVar("Value")
"""A NumPy array or a torch tensor."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Sensor readings of one step, in the layout of the spec."""

    stamp: float
    """Time of measurement on the robot's own clock, in s."""
    values: np.ndarray
    """`O` numbers in the order of `RobotSpec.observation_names`, SI units."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Fault of a robot: what is wrong, where, and by how much. `wm_robot.evaluation.diagnosis` has the kinds."""

    kind: str
    joint: str = ""
    """Empty for a fault of the whole robot."""
    other: str = ""
    """Second joint of exchanged cables."""
    size: float = 0.0
    """In the unit of the kind; 0 for a kind without a size."""
    heading: float = 0.0
    """Direction in which a tilted base leans, in rad about the vertical axis."""

    def to_dict(self) -> dict[str, str | float]:
        """Return plain values for JSON, without those that the kind does not need."""
        values = {name: getattr(self, name) for name in ("kind", "joint", "other", "size", "heading")}
        return {name: value for name, value in values.items() if value or name == "kind"}


@dataclass(frozen=True)
class Step(Generic[Value]):
    """Transition of one control step, or of `B` robots with a leading axis."""

    obs: Value
    """`O`, before the step."""
    action: Value
    """`A`, applied action."""
    next_obs: Value
    """`O`, one period later. Angles that wrap continue those of `obs`; see `ChannelLayout.continue_angles`."""
    valid: Value
    """0 or False: a gap, a stale or a rejected reading. Counted, never learned from."""
    reward: Value | None = None
    """None for a step without a task."""
    truth: Value | None = None
    """True physics in force, `P`, for experiments; None on a robot."""
    measured: Value | None = None
    """`O`: 1 for a channel of `next_obs` that is a reading, 0 for one that is filled with a prediction and that
    nothing is learned from; None: all are readings."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Consecutive steps from a reset to an end. The end is data and never resets a lifetime state.

    Numbers have the precision of the sensors, float32 or float64. Transitions to or from an observation that is
    not finite in a required channel are invalid.
    """

    stamp: np.ndarray
    """`T+1`, int64: time of each measurement on the robot's own clock, in ns; strictly increasing."""
    obs: np.ndarray
    """`T+1 O`; NaN in the channels of an optional sensor without a valid reading."""
    action: np.ndarray
    """`T A`: applied action between an observation and the next."""
    initial_action: np.ndarray
    """`A`: last action before the first step; NaN if unknown."""
    reward: np.ndarray
    """`T`, float64; NaN for steps without reward."""
    goal: np.ndarray
    """`T+1 G`; NaN before the first goal."""
    valid: np.ndarray
    """`T`, bool. False: a gap, a stale or a rejected reading. Counted, never learned from."""
    terminated: bool = False
    """The world ended the episode."""
    truncated: bool = False
    """The recording ended before the episode."""
    is_required: np.ndarray | None = None
    """`O`, bool: whether each channel must have a reading; None: all must."""
    is_new: np.ndarray | None = None
    """`T+1 O`, bool: whether each channel is a new reading, and not one that a slow sensor holds; None: all are."""

    def __post_init__(self) -> None:
        steps = len(self.action)
        rows_of = {"stamp": 1, "obs": 1, "goal": 1, "reward": 0, "valid": 0}
        if self.is_new is not None:
            rows_of["is_new"] = 1
        for name, rows in rows_of.items():
            found, expected = len(getattr(self, name)), steps + rows
            if found != expected:
                raise SpecError(f"{name} has {found} rows with {steps} actions; it needs {expected}")
        late = np.flatnonzero(np.diff(self.stamp) <= 0)
        if late.size:
            raise SpecError(
                f"stamp {self.stamp[late[0] + 1]} of observation {late[0] + 1} is not after the stamp before it; "
                "split the episode there"
            )
        object.__setattr__(self, "valid", self.valid & self._find_finite_steps())

    def find_whole_observations(self) -> np.ndarray:
        """Return which observations are finite in all required channels, `T+1`."""
        finite = np.isfinite(self.obs)
        return np.asarray((finite if self.is_required is None else finite | ~self.is_required).all(-1))

    def _find_finite_steps(self) -> np.ndarray:
        obs = self.find_whole_observations()
        return obs[:-1] & obs[1:] & np.isfinite(self.action).all(-1)

    def __len__(self) -> int:
        return len(self.action)

    def __iter__(self) -> Iterator[Step[np.ndarray]]:
        for step in range(len(self)):
            yield Step(
                obs=self.obs[step],
                action=self.action[step],
                next_obs=self.obs[step + 1],
                valid=self.valid[step],
                reward=self.reward[step],
            )


@dataclass(frozen=True, kw_only=True)
class TrajectoryBatch:
    """Trajectory batch: `B` trajectories of `T` control steps each."""

    obs: np.ndarray
    """`B T+1 O`, float32: sensor readings before each step, and after the last. Angles that wrap count turns."""
    action: np.ndarray
    """`B T A`, float32: applied actions."""
    initial_action: np.ndarray
    """`B A`, float32: last action before the first step."""
    goal: np.ndarray
    """`B T+1 G`, float32: before each step, and after the last."""
    physics: np.ndarray
    """`B W P`, float32: true parameters of the worlds of each trajectory, for the `oracle` variant only."""
    world: np.ndarray
    """`B T`, int64: index of the world in force, below `W`."""

    def __post_init__(self) -> None:
        lives, steps = self.action.shape[:2]
        for name in ("obs", "goal"):
            shape = getattr(self, name).shape
            if shape[:2] != (lives, steps + 1):
                raise SpecError(f"{name} is {shape} with action {self.action.shape}; it needs one step more")

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def num_steps(self) -> int:
        return self.action.shape[1]

    def true_physics(self) -> np.ndarray:
        """Return the true parameters at every step, `B T P`."""
        return np.take_along_axis(self.physics, self.world[..., None], axis=1)

    def select_rows(self, index: np.ndarray | slice) -> "TrajectoryBatch":
        """Select trajectories by index."""
        return TrajectoryBatch(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})
