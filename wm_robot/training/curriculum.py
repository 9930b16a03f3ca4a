"""Curriculum: training stages from short segments in mild worlds to full segments in all worlds."""

from dataclasses import dataclass

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.types import TrajectoryBatch


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Training stage; it ends when the model is competent enough for the next one."""

    segment_fraction: float = 1.0
    """Segment length, as a share of the full length; the number of rows grows accordingly."""
    carry_fraction: float = 1.0
    """Share of the full `carry_fraction` setting: rows that continue with their state."""
    world_fraction: float = 1.0
    """Share of trajectories that are drawn, those in the mildest worlds."""
    physics_factor: float = 1.0
    """Factor on the weight of the physics loss. It trains a memory to identify the dynamics before the model can use
    them."""
    min_competence: float = 1.0
    """Competence at the end of a segment from which the next stage starts."""
    max_progress: float = 1.0
    """Share of the training after which the next stage starts in any case."""

    def __post_init__(self) -> None:
        for name in ("segment_fraction", "world_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"stage.{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        for name in ("carry_fraction", "max_progress"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"stage.{name} is {getattr(self, name)}; it must be from 0 to 1")

    def is_complete(self, competence: float, progress: float) -> bool:
        """Whether the stage ends, at this competence and after this share of the training."""
        return competence >= self.min_competence or progress >= self.max_progress


DEFAULT_STAGES = (
    Stage(
        segment_fraction=0.5,
        carry_fraction=0.0,
        world_fraction=0.4,
        physics_factor=2.0,
        min_competence=0.9,
        max_progress=0.1,
    ),
    Stage(carry_fraction=0.5, world_fraction=0.7, physics_factor=1.5, min_competence=0.93, max_progress=0.25),
)
"""Default stages before the full training."""


def sort_by_severity(lives: TrajectoryBatch) -> np.ndarray:
    """Sort trajectories by the mean distance of their physics from nominal, over their steps."""
    rows = np.arange(len(lives))
    deviation = np.square(lives.physics.astype(np.float64)).mean(-1)
    return np.argsort(deviation[rows[:, None], lives.world].mean(1), kind="stable")
