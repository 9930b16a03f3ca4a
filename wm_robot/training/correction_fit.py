"""Correction fit: trains the learned correction of a semiparametric memory on what physics inference leaves over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.errors import ConfigError, check_at_least
from wm_robot.memory.linear_correction import LinearCorrection
from wm_robot.memory.semiparametric import SemiparametricMemory
from wm_robot.model.physics_inference import predict_under_physics
from wm_robot.model.world_model import WorldModel
from wm_robot.types import TrajectoryBatch

ROWS = 128
"""Trajectories that are lived at once."""


@dataclass(frozen=True, kw_only=True)
class CorrectionConfig:
    """Config of the correction fit. Equal config, data and seed give an equal correction."""

    num_trajectories: int = 1536
    """Trajectories with effects that are lived."""
    num_steps: int = 128
    """Steps of each."""
    num_rounds: int = 2
    """Times that they are lived: what physics leave over depends on the correction that lives beside them."""
    updates: int = 400
    batch_size: int = 24
    learning_rate: float = 2e-3
    """Learning rate of the features."""
    prior_learning_rate: float = 2e-2
    """Learning rate of scales, noise and half-life."""
    max_deviations: float = 5.0
    """Error, in predicted deviations, above which the loss grows linearly: a jolt teaches nothing."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(
            1,
            self,
            "num_trajectories",
            "num_steps",
            "num_rounds",
            "updates",
            "batch_size",
            section="correction",
        )


@dataclass(frozen=True)
class LivedResiduals:
    """What the hypothesis in use leaves over along trajectories, in units of the one-step change."""

    query: Float[Tensor, "B T D"]
    outcome: Float[Tensor, "B T O"]
    """Change minus the prediction of the physics alone."""
    variance: Float[Tensor, "B T O"]
    """Predicted variance of it, as `SemiparametricMemory.infer_physics` uses it."""


@torch.inference_mode()
def live_trajectories(
    model: WorldModel, batch: TrajectoryBatch, *, num_steps: int
) -> Iterator[LivedResiduals]:
    """Live trajectories with the memory in the loop, and yield what its hypotheses leave over, group by group."""
    memory = cast(SemiparametricMemory, model.memory_layers[0])
    for start in range(0, len(batch), ROWS):
        rows = np.arange(start, min(start + ROWS, len(batch)))
        part = batch.select_rows(rows)
        obs, action = (
            torch.from_numpy(np.ascontiguousarray(x))
            for x in (part.obs[:, : num_steps + 1], part.action[:, :num_steps])
        )
        state = model.initial_state(initial_action=torch.from_numpy(part.initial_action))
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for t in range(action.shape[1]):
            known = torch.cat([state.recent, action[:, t : t + 1]], 1)
            _, h, straight = model.enter(state, obs[:, t : t + 1], model.map_commands(state, known))
            h, straight = h[:, 0], straight[:, 0]
            sensed = predict_under_physics(model, memory, state, h, state.memory[0]["mean"][:, :1])
            change = model.channels.subtract(obs[:, t + 1], obs[:, t]) / model.change_std
            slope = sensed.jacobian[:, 0]
            unsure = ((slope @ state.memory[0]["covariance"][:, 0]) * slope).sum(-1)
            found.append(
                (
                    model.norms[0](h),
                    change - straight - sensed.mean[:, 0],
                    sensed.log_variance[:, 0].exp() + unsure / memory.VARIANCE_FACTOR,
                )
            )
            _, state = model.scan(state, obs[:, t : t + 2], action[:, t : t + 1], torch.ones(len(rows), 1))
        yield LivedResiduals(*(torch.stack(x, 1).clone() for x in zip(*found, strict=True)))


def fit_correction(
    model: WorldModel, batch: TrajectoryBatch, config: CorrectionConfig | None = None
) -> Iterator[dict[str, float]]:
    """Train the correction of a model by the likelihood of what physics leave over, through its own updates.

    Args:
        batch: Trajectories in worlds with effects that no parameter of the physics describes.

    Yields:
        Metrics: of the lived trajectories first, then of each gradient step.

    Raises:
        ConfigError: If the model's memory has no correction.
    """
    config = config or CorrectionConfig()
    memory = model.memory_layers[0]
    if not isinstance(memory, SemiparametricMemory):
        raise ConfigError(f"family '{model.config.memory}' has no correction to train")
    chosen = batch.select_rows(np.arange(min(config.num_trajectories, len(batch))))
    for number in range(config.num_rounds):
        parts = []
        for part in live_trajectories(model, chosen, num_steps=config.num_steps):
            parts.append(part)
            yield {"round": number, "lived": sum(len(each.query) for each in parts)}
        for metrics in _train_correction(memory.linear, parts, config):
            yield {"round": number, **metrics}


def _train_correction(
    correction: LinearCorrection, parts: Sequence[LivedResiduals], config: CorrectionConfig
) -> Iterator[dict[str, float]]:
    """Train the parameters of the correction; yield the metrics of each gradient step."""
    query, outcome, variance = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("query", "outcome", "variance")
    )
    generator = torch.Generator().manual_seed(config.seed)
    groups: list[tuple[list[Tensor], float]] = [
        (list(correction.features.parameters()), config.learning_rate),
        (list(correction.prior_parameters), config.prior_learning_rate),
    ]
    trained = [parameter.requires_grad_() for parameters, _ in groups for parameter in parameters]
    optimizer = torch.optim.Adam([{"params": parameters, "lr": rate} for parameters, rate in groups])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [rate for _, rate in groups], total_steps=config.updates + 1, pct_start=0.1
    )
    for update in range(1, config.updates + 1):
        rows = torch.randint(len(query), (config.batch_size,), generator=generator)
        loss, error = compute_correction_loss(
            correction, query[rows], outcome[rows], variance[rows], config.max_deviations
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        yield {"update": update, "surprise": float(loss.detach()), "error": float(error.detach())}


def compute_correction_loss(
    correction: LinearCorrection, query: Tensor, outcome: Tensor, variance: Tensor, max_deviations: float
) -> tuple[Tensor, Tensor]:
    """Compute the mean negative log-likelihood of a channel, in nats without its constant, and its squared error."""
    mean, total = correction.regress(query, outcome, variance)
    error = outcome - mean
    deviations = error / total.sqrt()
    loss = F.huber_loss(deviations, torch.zeros_like(deviations), delta=max_deviations)
    return loss + 0.5 * total.log().mean(), error.square().mean()
