"""From easy to hard: short lives in mild worlds first, long ones in all worlds last."""

from dataclasses import dataclass

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.types import Lives


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training, which ends when the model is competent enough for the next."""

    length: float = 1.0
    """Of a segment, as a part of the full length; it has so many more rows."""
    carried: float = 1.0
    """Part of the full share of rows that carry their state on."""
    worlds: float = 1.0
    """Share of lives that are drawn, those in the mildest worlds."""
    physics: float = 1.0
    """Factor on the weight of the physics read off the state. It rewards a memory for finding out what the world is
    like before the model can make use of it."""
    competence: float = 1.0
    """Of what a model that expects no change gets wrong, the part that is foreseen at the end of a segment; from
    here on the next stage begins."""
    until: float = 1.0
    """Part of the training by which it begins in any case."""

    def __post_init__(self) -> None:
        for name in ("length", "worlds"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"stage.{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        for name in ("carried", "until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"stage.{name} is {getattr(self, name)}; it must be from 0 to 1")

    def ends(self, competence: float, part: float) -> bool:
        """Whether the next one begins, at this competence and after this part of the training."""
        return competence >= self.competence or part >= self.until


STAGES = (
    Stage(length=0.5, carried=0.0, worlds=0.4, physics=2.0, competence=0.9, until=0.1),
    Stage(carried=0.5, worlds=0.7, physics=1.5, competence=0.93, until=0.25),
)
"""Before the full training."""


def mildest_first(lives: Lives) -> np.ndarray:
    """Lives in the order of how far their worlds are from the nominal one, on average over their steps."""
    rows = np.arange(len(lives))
    deviation = np.square(lives.physics.astype(np.float64)).mean(-1)
    return np.argsort(deviation[rows[:, None], lives.world].mean(1), kind="stable")
