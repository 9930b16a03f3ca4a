"""Offline prediction: observations and physics that a model predicts from a recorded trajectory."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.world_model import WorldModel


@torch.inference_mode()
def predict_observations(
    model: WorldModel,
    obs: np.ndarray,
    applied: np.ndarray,
    *,
    horizon: int,
    span: tuple[int, int],
    state: dict[str, np.ndarray] | None = None,
    update_state: bool = True,
) -> np.ndarray:
    """Predict observations `horizon` steps ahead, from the recorded actions.

    Args:
        obs: One trajectory, `T+1 O`.
        applied: Applied actions, `T A`.
        span: First and last step of `obs` to predict, last excluded.
        state: Saved lifetime state at the start. None: the initial state.
        update_state: False: the state is read and never updated.

    Returns:
        `span O`, in sensor units; NaN for steps with fewer than `horizon` steps before them.
    """
    seen, done = _add_batch_axis(obs), _add_batch_axis(applied)
    weight = torch.full((1, done.shape[1]), float(update_state))
    life = _start_state(model, done[:, 0], state)
    expected, lived = np.full((span[1] - span[0], obs.shape[1]), np.nan, np.float32), 0
    for row, step in enumerate(range(*span)):
        origin = step - horizon
        if origin < 0:
            continue
        if origin > lived:
            part = slice(lived, origin)
            _, life = model.scan(life, seen[:, lived : origin + 1], done[:, part], weight[:, part])
            lived = origin
        mean, _ = model.imagine(life, model.observe(life, seen[:, origin]), done[:, None, origin:step])
        expected[row] = mean[0, 0, -1].numpy()
    return expected


@torch.inference_mode()
def estimate_physics(
    model: WorldModel,
    obs: np.ndarray,
    applied: np.ndarray,
    *,
    span: tuple[int, int],
    state: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Estimate the physics at each step of `span`, before the update with that step: `span P`.

    The arguments are those of `predict_observations`. The numbers are those of `WorldModel.physics`.
    """
    seen, done = _add_batch_axis(obs), _add_batch_axis(applied)
    life, lived, believed = _start_state(model, done[:, 0], state), 0, []
    for step in range(*span):
        part = slice(lived, step)
        if step > lived:
            ones = torch.ones(1, step - lived)
            _, life = model.scan(life, seen[:, lived : step + 1], done[:, part], ones)
        believed.append(model.estimate_physics(life)[0].numpy())
        lived = step
    return np.stack(believed)


def _start_state(
    model: WorldModel, last_action: Tensor, state: dict[str, np.ndarray] | None
) -> LifetimeState[Tensor]:
    """Return the initial state, or a saved state with the recent actions of this robot."""
    born = model.initial_state(initial_action=last_action)
    if state is None:
        return born
    saved = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
    return replace(LifetimeState.unflatten(born.flatten() | saved).model_part(), recent=born.recent)


def _add_batch_axis(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values[None], dtype=np.float32))
