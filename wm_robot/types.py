"""The words of experience: one observation, one transition, an episode, many lives."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from wm_robot.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the sensors gave at one step, as the spec lays out."""

    stamp: float
    """Time of measurement on the robot's own clock, in s."""
    values: np.ndarray
    """`O` numbers in the order of `RobotSpec.observation_names`, SI units."""


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One control step that was lived."""

    obs: np.ndarray
    """`O`, before."""
    action: np.ndarray
    """`A`, what reached the motors."""
    reward: float
    next_obs: np.ndarray
    """`O`, one period later."""
    valid: bool = True
    """False: a gap, a stale or a refused reading. Counted, never learned from."""


@dataclass
class Episode:
    """Steps from a reset to an end, in order; the end is data and never resets a lifetime state."""

    transitions: list[Transition] = field(default_factory=list)
    terminated: bool = False
    """The world ended it."""
    truncated: bool = False
    """We stopped watching."""

    def __len__(self) -> int:
        return len(self.transitions)

    def __iter__(self) -> Iterator[Transition]:
        return iter(self.transitions)

    def append(self, transition: Transition) -> None:
        """Add the step that followed.

        Raises:
            SpecError: If the episode has ended.
        """
        if self.terminated or self.truncated:
            raise SpecError(f"the episode ended after {len(self)} steps; begin another")
        self.transitions.append(transition)


@dataclass(frozen=True, kw_only=True)
class Lives:
    """`B` lifetimes of `T` control steps each, side by side."""

    obs: np.ndarray
    """`B T+1 O`, float32: what was sensed before each step, and after the last."""
    action: np.ndarray
    """`B T A`, float32: what reached the motors."""
    hold: np.ndarray
    """`B A`, float32: the action in force before the first step."""
    goal: np.ndarray
    """`B T+1 G`, float32: before each step, and after the last."""
    physics: np.ndarray
    """`B W P`, float32: true parameters of the worlds of each life, which only an oracle may see."""
    world: np.ndarray
    """`B T`, int64: which of the `W` worlds was in force."""

    def __post_init__(self) -> None:
        lives, steps = self.action.shape[:2]
        for name in ("obs", "goal"):
            shape = getattr(self, name).shape
            if shape[:2] != (lives, steps + 1):
                raise SpecError(
                    f"{name} is {shape} beside action {self.action.shape}; it needs one step more"
                )

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def steps(self) -> int:
        return self.action.shape[1]

    def truth(self) -> np.ndarray:
        """True parameters at every step, `B T P`."""
        return np.take_along_axis(self.physics, self.world[..., None], axis=1)

    def rows(self, index: np.ndarray | slice) -> "Lives":
        """Some of the lives."""
        return Lives(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})
