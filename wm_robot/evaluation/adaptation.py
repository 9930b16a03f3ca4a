"""Adaptation speed: open-loop error by the number of updates, between no adaptation and the true physics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, unreported
from wm_robot.types import Lives, Step

HORIZON = 8
"""Steps of open-loop prediction."""
MOMENTS = (0, 2, 4, 6)
"""Offsets in steps whose errors are averaged, to reduce the noise of a single step."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Experimental variant: a model and its name."""

    name: str
    model: WorldModel


@torch.inference_mode()
def error_by_step(
    arm: Arm,
    lives: Lives,
    points: Sequence[int],
    *,
    change_std: np.ndarray,
    moments: Sequence[int] = MOMENTS,
    horizon: int = HORIZON,
    progress: Progress = unreported,
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
    view, unit = LivesView(lives), torch.from_numpy(change_std)
    state = arm.model.birth(hold=view.hold, truth=view.told(arm.model, 0))
    errors, at = [], 0
    wanted = sorted({p + m for p in points for m in moments if p + m + horizon <= lives.steps})
    found: dict[int, Tensor] = {}
    for point in wanted:
        state = live(arm.model, state, view, at, point)
        found[point], at = open_loop(arm.model, state, view, point, unit, horizon), point
        progress(point + 1, wanted[-1] + 1)
    for p in points:
        errors.append(torch.stack([found[p + m] for m in moments if p + m in found]).mean(0))
    return torch.stack(errors, 1).numpy()


@torch.inference_mode()
def error_after_false_history(
    arm: Arm,
    lives: Lives,
    *,
    steps: int,
    change_std: np.ndarray,
    history: str,
    seed: int,
    horizon: int = HORIZON,
) -> np.ndarray:
    """Compute the same error, `B`, after updates with transitions of another robot.

    Args:
        history: `shuffled`: own steps, each with the outcome of another; `other_world`: steps of the next trajectory.
    """
    view, unit = LivesView(lives), torch.from_numpy(change_std)
    state = arm.model.birth(hold=view.hold, truth=view.told(arm.model, 0))
    if history == "other_world":
        other = LivesView(lives.rows(np.roll(np.arange(len(lives)), 1)))
        state = live(arm.model, state, other, 0, steps)
    elif history == "shuffled":
        order = torch.from_numpy(np.random.default_rng(seed).permutation(steps))
        change = view.obs[:, order + 1] - view.obs[:, order]
        for t in range(steps):
            at = view.obs[:, t]
            step = Step(at, view.action[:, t], at + change[:, t], torch.ones(len(lives)))
            _, state = arm.model.write(state, step)
    else:
        raise ValueError(f"history is '{history}'; it must be 'shuffled' or 'other_world'")
    errors = []
    for moment in MOMENTS:
        point = steps + moment
        now = replace(state, recent=_recent(view, point, arm.model.config.recent))
        errors.append(open_loop(arm.model, now, view, point, unit, horizon))
    return torch.stack(errors).mean(0).numpy()


class LivesView:
    """Trajectory batch as tensors."""

    def __init__(self, lives: Lives):
        self.obs = torch.from_numpy(lives.obs)
        self.action = torch.from_numpy(lives.action)
        self.hold = torch.from_numpy(lives.hold)
        truth = lives.truth()
        self.truth = torch.from_numpy(np.concatenate([truth, truth[:, -1:]], 1))

    def told(self, model: WorldModel, at: int | slice) -> Tensor | None:
        """Return the true physics for a model of the `oracle` variant, else None."""
        return self.truth[:, at] if model.told else None


def live(
    model: WorldModel, state: LifetimeState[Tensor], view: LivesView, start: int, stop: int
) -> LifetimeState[Tensor]:
    """Update the state with steps `start` to `stop`, in pieces that fit in memory."""
    for at in range(start, stop, 128):
        end = min(stop, at + 128)
        part = slice(at, end)
        ones = torch.ones(len(view.obs), end - at)
        truth = view.told(model, slice(at, end + 1))
        _, state = model.scan(state, view.obs[:, at : end + 1], view.action[:, part], ones, truth)
    return state


def open_loop(
    model: WorldModel,
    state: LifetimeState[Tensor],
    view: LivesView,
    point: int,
    unit: Tensor,
    horizon: int = HORIZON,
) -> Tensor:
    """Compute the squared error `horizon` steps after a point, `B`: mean over channels, in squares of `unit`."""
    plans = view.action[:, None, point : point + horizon]
    mean, _ = model.imagine(state, model.observe(state, view.obs[:, point]), plans)
    return ((mean[:, 0, -1] - view.obs[:, point + horizon]) / unit).square().mean(-1)


def _recent(view: LivesView, point: int, count: int) -> Tensor:
    return torch.cat([view.hold[:, None].expand(-1, count, -1), view.action[:, :point]], 1)[:, -count:]
