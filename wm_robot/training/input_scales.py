"""Input scales: units of a model's inputs and the prior of its initial state, fitted to training data."""

import numpy as np
import torch

from wm_robot.math.rotations import subtract_angles
from wm_robot.model.world_model import WorldModel


def fit_scales(model: WorldModel, obs: np.ndarray, action: np.ndarray) -> None:
    """Set the units of observation, change and action from data, `B T+1 O` and `B T A`."""
    at = obs[:, :-1]
    # Arrays: a tensor of one index would drop the axis.
    pull = action[..., model.servo_action.numpy()] - at[..., model.servo_obs.numpy()]
    for name, values in (("obs", at), ("action", action), ("servo_error", pull)):
        values = values.astype(np.float64)
        getattr(model, f"{name}_mean").copy_(torch.from_numpy(values.mean((0, 1))))
        getattr(model, f"{name}_std").copy_(torch.from_numpy(values.std((0, 1))).clamp_min(1e-4))
    change = compute_change_std(model, obs)
    mean, std = (scale.numpy() for scale in (model.obs_mean, model.obs_std))
    model.channels.set_fixed_scales(mean, std, change)
    model.change_std.copy_(torch.from_numpy(change).clamp_min(1e-6))


def compute_change_std(model: WorldModel, obs: np.ndarray) -> np.ndarray:
    """Compute the standard deviation of the one-step change of each channel, float64 `O`, from `B T+1 O`."""
    values, periods = obs.astype(np.float64), model.channels.periods.numpy()
    change = subtract_angles(values[:, 1:], values[:, :-1], periods)
    deviation: np.ndarray = change.std((0, 1))
    return deviation


def fit_physics_prior(model: WorldModel, physics: np.ndarray) -> None:
    """Set the physics prior of the initial state from training worlds, `N P`."""
    for memory in model.memory_layers:
        memory.fit_prior(physics)
