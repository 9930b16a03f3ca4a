"""A model of two sensors and one action: for tests of what is around a model."""

import torch

from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel


def small_model(
    memory: str,
    *,
    truth: int = 2,
    servo: int = 0,
    obs: int = 2,
    wraps: tuple[int, ...] = (),
    rotations: tuple[int, ...] = (),
) -> WorldModel:
    """Never trained, the same each time."""
    torch.manual_seed(0)
    shape = ModelConfig(
        obs=obs,
        wraps=wraps,
        rotations=rotations,
        action=1,
        truth=truth,
        dt=0.02,
        servo=(servo,),
        memory=memory,
        width=16,
        context=4,
        outcome=8,
    )
    return WorldModel(shape).eval().requires_grad_(False)
