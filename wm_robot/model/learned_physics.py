"""Learned physics: what a lifetime state estimates of the robot, as arrays, for a diagnosis."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.world_model import WorldModel


@dataclass(frozen=True)
class LearnedPhysics:
    """Learned physics of one robot."""

    physics: Float[np.ndarray, "P"]
    """0 is nominal, a usual deviation is about 1."""
    mixing: Float[np.ndarray, "A A"] | None
    """What each motor gets of all commands; None: the state has no command map in use."""
    offset: Float[np.ndarray, "A"] | None
    """What is added to each command, at the usual commands."""


def read_learned_physics(model: WorldModel, state: Mapping[str, np.ndarray]) -> LearnedPhysics:
    """Read what a saved lifetime state has learned of the physics and of the commands.

    Args:
        state: Flat form of the state, with a batch of one.
    """
    with torch.inference_mode():
        born = model.initial_state(initial_action=torch.zeros(1, len(model.action_mean)))
        initial = born.flatten()
        saved = {name: torch.from_numpy(value.copy()) for name, value in state.items() if name in initial}
        life = LifetimeState.unflatten(initial | saved).model_part()
        physics = model.estimate_physics(life)[0].numpy()
        command_map = model.memory_layers[0].find_command_map(life.memory[0])
        if command_map is None or not bool(command_map.any()):
            return LearnedPhysics(physics, None, None)
        usual = model.action_mean[None, None]
        apart = torch.diag(model.action_std)
        moved = model.apply_map(command_map, torch.cat([usual, usual + apart[None]], 1))[0]
        mixing = ((moved[1:] - moved[:1]) / model.action_std[:, None]).T
        return LearnedPhysics(physics, mixing.numpy(), (moved[0] - usual[0, 0]).numpy())
