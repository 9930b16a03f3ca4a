"""Adaptation speed: open-loop error by the number of updates, between no adaptation and the true physics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.model.config import ModelConfig
from wm_robot.model.observed_channels import ObservedChannels
from wm_robot.progress import Progress, ignore_progress
from wm_robot.types import Step, TrajectoryBatch

HORIZON = 8
"""Steps of open-loop prediction."""
OFFSETS = (0, 2, 4, 6)
"""Offsets in steps whose errors are averaged, to reduce the noise of a single step."""


@runtime_checkable
class LearningModel(Protocol):
    """Model that learns in its lifetime state: a `WorldModel`, or a learner that it is compared with."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def channels(self) -> ObservedChannels: ...

    @property
    def uses_privileged_state(self) -> bool: ...

    def initial_state(
        self, *, initial_action: Float[Tensor, "B A"], truth: Tensor | None = None
    ) -> LifetimeState[Tensor]:
        """See `WorldModel.initial_state`."""

    def update(
        self, state: LifetimeState[Tensor], step: Step[Tensor]
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """See `WorldModel.update`."""

    def scan(
        self,
        state: LifetimeState[Tensor],
        obs: Float[Tensor, "B Tplus1 O"],
        action: Float[Tensor, "B T A"],
        valid: Float[Tensor, "B T"],
        truth: Tensor | None = None,
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """See `WorldModel.scan`."""

    def observe(self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"]) -> Float[Tensor, "B Z"]:
        """See `WorldModel.observe`."""

    def imagine(
        self, state: LifetimeState[Tensor], z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]
    ) -> Prediction[Tensor]:
        """See `WorldModel.imagine`."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Experimental variant: a model and its name."""

    name: str
    model: LearningModel


@torch.inference_mode()
def compute_error_by_step(
    variant: Variant,
    batch: TrajectoryBatch,
    update_counts: Sequence[int],
    *,
    change_std: np.ndarray,
    offsets: Sequence[int] = OFFSETS,
    horizon: int = HORIZON,
    progress: Progress = ignore_progress,
) -> np.ndarray:
    """Compute the squared error `horizon` steps ahead, by trajectory and number of updates.

    Args:
        update_counts: Numbers of updates.
        change_std: Unit of the error, `O`: standard deviation of the one-step change.
        offsets: Offsets after each point; those beyond the end of the trajectories are left out.
        progress: Progress in steps.

    Returns:
        `B P`, mean over channels.
    """
    view, unit = TensorBatch(batch), torch.from_numpy(change_std)
    state = variant.model.initial_state(
        initial_action=view.initial_action, truth=view.get_privileged_physics(variant.model, 0)
    )
    errors, at = [], 0
    wanted = sorted({p + m for p in update_counts for m in offsets if p + m + horizon <= batch.num_steps})
    found: dict[int, Tensor] = {}
    for point in wanted:
        state = update_state(variant.model, state, view, at, point)
        found[point], at = compute_open_loop_error(variant.model, state, view, point, unit, horizon), point
        progress(point + 1, wanted[-1] + 1)
    for p in update_counts:
        errors.append(torch.stack([found[p + m] for m in offsets if p + m in found]).mean(0))
    return torch.stack(errors, 1).numpy()


@torch.inference_mode()
def compute_error_after_false_history(
    variant: Variant,
    batch: TrajectoryBatch,
    *,
    num_steps: int,
    change_std: np.ndarray,
    history: str,
    seed: int,
    horizon: int = HORIZON,
) -> np.ndarray:
    """Compute the same error, `B`, after updates with transitions that are not the robot's own.

    Args:
        history: `shuffled`: own steps, each with the outcome of another; `other_world`: steps of the next trajectory;
            `none`: no updates, as if the state was reset after each step.
    """
    view, unit = TensorBatch(batch), torch.from_numpy(change_std)
    state = variant.model.initial_state(
        initial_action=view.initial_action, truth=view.get_privileged_physics(variant.model, 0)
    )
    if history == "other_world":
        other = TensorBatch(batch.select_rows(np.roll(np.arange(len(batch)), 1)))
        state = update_state(variant.model, state, other, 0, num_steps)
    elif history == "shuffled":
        order = torch.from_numpy(np.random.default_rng(seed).permutation(num_steps))
        change = variant.model.channels.subtract(view.obs[:, order + 1], view.obs[:, order])
        for t in range(num_steps):
            at = view.obs[:, t]
            step = Step(at, view.action[:, t], at + change[:, t], torch.ones(len(batch)))
            _, state = variant.model.update(state, step)
    elif history != "none":
        raise ValueError(f"history is '{history}'; it must be 'shuffled', 'other_world' or 'none'")
    errors = []
    for moment in OFFSETS:
        point = num_steps + moment
        now = replace(state, recent=_recent_actions(view, point, variant.model.config.recent))
        errors.append(compute_open_loop_error(variant.model, now, view, point, unit, horizon))
    return torch.stack(errors).mean(0).numpy()


class TensorBatch:
    """Trajectory batch as tensors."""

    def __init__(self, batch: TrajectoryBatch):
        self.obs = torch.from_numpy(batch.obs)
        self.action = torch.from_numpy(batch.action)
        self.initial_action = torch.from_numpy(batch.initial_action)
        truth = batch.true_physics()
        self.truth = torch.from_numpy(np.concatenate([truth, truth[:, -1:]], 1))

    def get_privileged_physics(self, model: LearningModel, at: int | slice) -> Tensor | None:
        """Return the true physics for a model of the `oracle` variant, else None."""
        return self.truth[:, at] if model.uses_privileged_state else None


def update_state(
    model: LearningModel, state: LifetimeState[Tensor], view: TensorBatch, start: int, stop: int
) -> LifetimeState[Tensor]:
    """Update the state with steps `start` to `stop`, in pieces that fit in memory."""
    for at in range(start, stop, 128):
        end = min(stop, at + 128)
        part = slice(at, end)
        ones = torch.ones(len(view.obs), end - at)
        truth = view.get_privileged_physics(model, slice(at, end + 1))
        _, state = model.scan(state, view.obs[:, at : end + 1], view.action[:, part], ones, truth)
    return state


def compute_open_loop_error(
    model: LearningModel,
    state: LifetimeState[Tensor],
    view: TensorBatch,
    point: int,
    unit: Tensor,
    horizon: int = HORIZON,
) -> Tensor:
    """Compute the squared error `horizon` steps after a point, `B`: mean over channels, in squares of `unit`."""
    plans = view.action[:, None, point : point + horizon]
    mean, _ = model.imagine(state, model.observe(state, view.obs[:, point]), plans)
    error = model.channels.subtract(mean[:, 0, -1], view.obs[:, point + horizon])
    return (error / unit).square().mean(-1)


def _recent_actions(view: TensorBatch, point: int, count: int) -> Tensor:
    return torch.cat([view.initial_action[:, None].expand(-1, count, -1), view.action[:, :point]], 1)[
        :, -count:
    ]
