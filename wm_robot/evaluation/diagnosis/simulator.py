"""Segment simulator: what the diagnosis needs of a simulator, and the segments that it simulates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from wm_robot.types import Fault


@runtime_checkable
class Parameter(Protocol):
    """Parameter of a robot: a number that differs from robot to robot; 0 is nominal, a factor is its logarithm."""

    @property
    def name(self) -> str:
        """Such as `gain/elbow` or `payload`."""

    @property
    def joint(self) -> str:
        """Empty for the whole robot."""

    @property
    def quantity(self) -> str:
        """Name without the joint."""

    @property
    def healthy_std(self) -> float:
        """Standard deviation among healthy robots."""

    @property
    def wide_std(self) -> float:
        """Standard deviation among robots with this fault."""

    @property
    def healthy(self) -> tuple[float, float]:
        """Values that are no fault."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Values that the simulator accepts."""

    @property
    def step(self) -> float:
        """Step of a finite difference."""


@dataclass(frozen=True)
class Segments:
    """Segments of `S` short pieces of a recording, each restarted from the state that was observed at its start."""

    episode: Int[np.ndarray, "S"]
    start: Int[np.ndarray, "S"]
    """Observation at the start."""
    length: int
    """In control steps."""

    def __len__(self) -> int:
        return len(self.start)

    def select(self, index: np.ndarray | slice) -> "Segments":
        """Select segments."""
        return Segments(self.episode[index], self.start[index], self.length)


@runtime_checkable
class SegmentSimulator(Protocol):
    """Simulator of one robot, with the recording that is diagnosed."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Parameters of the robot."""

    def simulate(
        self, segments: Segments, values: Float[np.ndarray, "P"], faults: Sequence[Fault]
    ) -> Float[np.ndarray, "S T C"]:
        """Simulate segments with the recorded actions.

        Args:
            values: Of the parameters.
            faults: Faults without a size: reversed, exchanged or stuck.

        Returns:
            Readings after each step, of the positions of all joints, then of their velocities.
        """
