"""Curriculum: training stages from short segments in mild worlds to full segments in all worlds."""

from dataclasses import dataclass

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.types import TrajectoryBatch


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Training stage; it ends when the model is competent enough for the next one."""

    length: float = 1.0
    """Segment length, as a share of the full length; the number of rows grows accordingly."""
    carried: float = 1.0
    """Share of the full `carried` setting: rows that continue with their state."""
    worlds: float = 1.0
    """Share of trajectories that are drawn, those in the mildest worlds."""
    physics: float = 1.0
    """Factor on the weight of the physics loss. It trains a memory to identify the dynamics before the model can use
    them."""
    competence: float = 1.0
    """Competence at the end of a segment from which the next stage starts."""
    until: float = 1.0
    """Share of the training after which the next stage starts in any case."""

    def __post_init__(self) -> None:
        for name in ("length", "worlds"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"stage.{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        for name in ("carried", "until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"stage.{name} is {getattr(self, name)}; it must be from 0 to 1")

    def is_complete(self, competence: float, progress: float) -> bool:
        """Whether the stage ends, at this competence and after this share of the training."""
        return competence >= self.competence or progress >= self.until


DEFAULT_STAGES = (
    Stage(length=0.5, carried=0.0, worlds=0.4, physics=2.0, competence=0.9, until=0.1),
    Stage(carried=0.5, worlds=0.7, physics=1.5, competence=0.93, until=0.25),
)
"""Default stages before the full training."""


def sort_by_severity(lives: TrajectoryBatch) -> np.ndarray:
    """Sort trajectories by the mean distance of their physics from nominal, over their steps."""
    rows = np.arange(len(lives))
    deviation = np.square(lives.physics.astype(np.float64)).mean(-1)
    return np.argsort(deviation[rows[:, None], lives.world].mean(1), kind="stable")
