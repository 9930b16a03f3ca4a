"""Toy tasks: small models trained on worlds of a few lines, for benches that compare memory families alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_robot.memory.registry import find_family
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress
from wm_robot.training.train_config import TrainConfig
from wm_robot.training.trainer import Trainer
from wm_robot.types import TrajectoryBatch


@dataclass(frozen=True)
class ToyTask:
    """Toy task: a small world to train on."""

    name: str
    num_states: int
    num_inputs: int
    num_physics: int
    """Number of physics parameters."""
    num_trajectories: int
    """Number of training trajectories."""
    generate: Callable[[int, int], TrajectoryBatch]
    """Function from number of trajectories and seed to trajectories."""

    def train(self, family: str, updates: int, work: Path, progress: Progress) -> WorldModel:
        """Train a model of a family; continue from its checkpoint in `work`, or load the finished training.

        Args:
            progress: Progress over the remaining updates.
        """
        import torch

        torch.manual_seed(0)
        config = ModelConfig(
            obs=self.num_states,
            action=self.num_inputs,
            truth=self.num_physics,
            dt=0.02,
            servo=(-1,) * self.num_inputs,
            memory=family,
            width=64,
            blocks=find_family(family).memory_class.max_layers or 2,
            context=8,
            recent=1,
            outcome=32,
        )
        trainer = Trainer(
            WorldModel(config),
            TrainConfig(updates=updates, horizon=0, collect_at=()),
            folder=work / f"{family}-{updates}",
            data=work / "lives",
            trajectory_source=_TrajectoryGenerator(self),
        )
        before = trainer.update
        for metrics in trainer.run():
            progress(int(metrics["update"]) - before, updates - before)
        return trainer.model.requires_grad_(False)


@dataclass(frozen=True)
class _TrajectoryGenerator:
    """Generator of training trajectories."""

    task: ToyTask

    def describe_round(self, number: int) -> dict[str, Any]:
        """See `wm_robot.training.trainer.TrajectorySource`."""
        return {"task": self.task.name, "round": number, "lives": self.task.num_trajectories}

    def __call__(self, number: int, model: WorldModel | None) -> TrajectoryBatch:
        return self.task.generate(self.task.num_trajectories, number)
