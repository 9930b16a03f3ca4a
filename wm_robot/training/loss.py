"""Training loss: prequential prediction error, open-loop error and error of the physics."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.model.backend import Prediction
from wm_robot.model.gap_filling import fill_gaps
from wm_robot.model.world_model import WorldModel

ANCHOR_STEPS = (0, 2, 6, 12, 24, 48, 96, 192)
"""Steps of a segment at which open-loop imagination starts; dense where learning is fastest."""


class LossTerms(NamedTuple):
    """Terms of the loss; scalars, and the open-loop error by anchor."""

    surprise: Tensor
    """Mean one-step negative log-likelihood of a channel, in nats, in units of the one-step change, without the
    constant ½ log 2π."""
    open_loop: Tensor
    """Mean Huber error over the horizon, in units of the one-step change."""
    physics: Tensor
    """Mean squared error of the physics estimated from the state, in units of their usual deviation."""
    by_anchor: Float[Tensor, "anchors"]
    """Mean squared open-loop error at the last imagined step, by anchor."""
    competence: Tensor
    """Share of the error of predicting no change that the model avoids, from the last anchor."""


def compute_segment_loss(
    model: WorldModel,
    state: LifetimeState[Tensor],
    obs: Float[Tensor, "B Tplus1 O"],
    action: Float[Tensor, "B T A"],
    truth: Float[Tensor, "B Tplus1 P"],
    *,
    horizon: int,
    sensed: Float[Tensor, "B Tplus1 O"] | None = None,
) -> tuple[LossTerms, LifetimeState[Tensor]]:
    """Scan a segment, imagine from several of its steps, and compute the loss.

    Gradients flow through every update, and not through what fills a gap.

    Args:
        obs: What the sensors would give; predictions are compared with it.
        horizon: Imagined steps; 0 scans the segment at once, and estimates the physics at its end alone.
        sensed: What the sensors give, NaN where there is no reading; None: the same as `obs`.
    """
    steps = action.shape[1]
    anchors = [t for t in ANCHOR_STEPS if t + horizon <= steps] if horizon else [0]
    ones = torch.ones(action.shape[:2])
    given, measured = obs, None
    if sensed is not None:
        given, measured = fill_gaps(model, state, sensed, action, ones, truth)
    predicted, moments = [], []
    for start, stop in zip(anchors, [*anchors[1:], steps], strict=True):
        moments.append(state)
        part, whole = slice(start, stop), slice(start, stop + 1)
        known = None if measured is None else measured[:, part]
        piece, state = model.scan(
            state, given[:, whole], action[:, part], ones[:, part], truth[:, whole], known
        )
        predicted.append(piece)
    surprise = _compute_one_step_loss(model, predicted, obs[:, 1:])

    if not horizon:
        anchors, moments = [steps], [state]
    joined = map_values(lambda *values: torch.cat(values), *moments)
    open_loop, by_anchor, competence = _compute_open_loop_loss(
        model, joined, given, obs, action, anchors, horizon
    )

    true = torch.cat([truth[:, t] for t in anchors])
    physics = (model.estimate_physics(joined) - true).square().mean()
    return LossTerms(surprise, open_loop, physics, by_anchor, competence), state


def _compute_open_loop_loss(
    model: WorldModel,
    state: LifetimeState[Tensor],
    given: Tensor,
    obs: Tensor,
    action: Tensor,
    anchors: list[int],
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the loss of imagination from the anchors, the error at its last step by anchor, and the competence."""
    if not horizon:
        return obs.new_zeros(()), obs.new_zeros(0), obs.new_zeros(())
    seen = torch.cat([given[:, t] for t in anchors])
    plans = torch.cat([action[:, t : t + horizon] for t in anchors])
    future = torch.cat([obs[:, t + 1 : t + 1 + horizon] for t in anchors])
    mean, _ = model.imagine(state, model.observe(state, seen), plans[:, None])
    error = model.channels.subtract(mean[:, 0], future) / model.change_std
    still = model.channels.subtract(seen, future[:, -1]) / model.change_std
    by_anchor, unforeseen = (
        x.detach().square().mean(-1).view(len(anchors), -1).mean(1) for x in (error[:, -1], still)
    )
    loss = F.huber_loss(error, torch.zeros_like(error), delta=3.0)
    return loss, by_anchor, 1 - by_anchor[-1] / unforeseen[-1].clamp_min(1e-6)


def _compute_one_step_loss(
    model: WorldModel, predictions: list[Prediction[Tensor]], outcome: Tensor
) -> Tensor:
    change = model.change_std
    mean = torch.cat([piece.mean for piece in predictions], 1)
    log_variance = torch.cat([piece.log_variance for piece in predictions], 1) - 2 * change.log()
    error = model.channels.subtract(mean, outcome) / change
    return 0.5 * (error.square() * torch.exp(-log_variance) + log_variance).mean()
