"""Small models trained on worlds that are a few lines: for benches that compare families by themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_robot.memory.registry import find_family
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress
from wm_robot.training.trainer import TrainConfig, Trainer
from wm_robot.types import Lives


@dataclass(frozen=True)
class SmallTask:
    """A world to train on."""

    name: str
    states: int
    inputs: int
    numbers: int
    """Of its physics."""
    lives: int
    """Of training."""
    live: Callable[[int, int], Lives]
    """Number of lives and seed → lives."""

    def train(self, family: str, updates: int, work: Path, progress: Progress) -> WorldModel:
        """A model of that family; goes on from its checkpoint in `work`, or takes the training that is there.

        Args:
            progress: Of the updates that were left.
        """
        import torch

        torch.manual_seed(0)
        config = ModelConfig(
            obs=self.states,
            action=self.inputs,
            truth=self.numbers,
            dt=0.02,
            servo=(-1,) * self.inputs,
            memory=family,
            width=64,
            blocks=find_family(family).memory.max_layers or 2,
            context=8,
            recent=1,
            outcome=32,
        )
        trainer = Trainer(
            WorldModel(config),
            TrainConfig(updates=updates, horizon=0, rounds=()),
            folder=work / f"{family}-{updates}",
            data=work / "lives",
            gather=_Gather(self),
        )
        before = trainer.update
        for metrics in trainer.run():
            progress(int(metrics["update"]) - before, updates - before)
        return trainer.model.requires_grad_(False)


@dataclass(frozen=True)
class _Gather:
    """Lives to train on."""

    task: SmallTask

    def recipe(self, number: int) -> dict[str, Any]:
        """See `wm_robot.training.trainer.Gather`."""
        return {"task": self.task.name, "round": number, "lives": self.task.lives}

    def __call__(self, number: int, model: WorldModel | None) -> Lives:
        return self.task.live(self.task.lives, number)
