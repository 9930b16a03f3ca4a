"""Residual fit: fits a residual of the weights to the errors that the memories leave.

Encoder, memories, heads and the base's weights stay fixed. The segments of the robot are replayed, and from moments
of them the model imagines the recorded actions. Gradients reach the residual alone. It is regularised to zero, and
its norm is bounded by a share of the norm of the corrected weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wm_robot.adaptation.candidate import CandidateErrors, ResidualCandidate, ResidualFitConfig
from wm_robot.adaptation.experience_buffer import ExperienceBuffer, ExperienceSegment
from wm_robot.memory.lifetime_state import (
    LearnedState,
    LifetimeState,
    LowRank,
    Residual,
    convert_values,
    list_values,
    map_values,
)
from wm_robot.model.torch_backend import to_array
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

TensorResidual = Residual[Tensor]
ANGLE_ROUNDING = 1e-5
"""Difference of two equal angles that wrap, in turns."""


class StartMoments(NamedTuple):
    """Start moments of imagination with their recorded future, `B N …`."""

    state: LifetimeState[Tensor]
    """Part of the state that imagination reads, without the residual."""
    obs: Tensor
    action: Float[Tensor, "B N H A"]
    next_obs: Float[Tensor, "B N H O"]
    is_valid: Float[Tensor, "B N"]
    """0 where a step ahead is invalid."""


class ResidualFitter:
    """Residual fitter: collects segments of one or more robots and computes a candidate at intervals."""

    def __init__(
        self,
        model: WorldModel,
        config: ResidualFitConfig | None = None,
        experience: ExperienceBuffer | None = None,
    ):
        """Args:
        experience: Experience buffer to start with.
        """
        self.model, self.config, self.experience = (
            model,
            config or ResidualFitConfig(),
            experience or ExperienceBuffer(),
        )

    def add_segment(self, segment: ExperienceSegment) -> ResidualCandidate | None:
        """Add a segment; return a candidate, if one is due.

        Segments may be missing, but the held-out ones must be consecutive.
        """
        self.experience = past = self.experience.append_segment(segment)
        number, held_out = int(segment.number[0]), self.config.num_held_out
        if (number + 1) % self.config.segment_interval or len(past.latest) <= held_out:
            return None
        if number - past.latest[-held_out].number[0] != held_out - 1:
            return None
        residual, verdict = fit_candidate(self.model, past.kept, past.latest, seed=number, config=self.config)
        return ResidualCandidate(convert_values(to_array, residual), verdict, number)


def get_segment_residual(segment: ExperienceSegment) -> TensorResidual:
    """Return the residual in use during a segment."""
    residual = _get_start_state(segment).residual
    assert residual is not None, "the chapter has no residual"
    return residual


@torch.inference_mode(mode=False)
def fit_candidate(
    model: WorldModel,
    sampled: Sequence[ExperienceSegment],
    recent: Sequence[ExperienceSegment],
    *,
    seed: int,
    config: ResidualFitConfig,
) -> tuple[TensorResidual, CandidateErrors]:
    """Fit a candidate for the residual of each row, and evaluate it on held-out segments.

    The current residual is that of the last segment.

    Args:
        sampled: Uniform sample of the whole lifetime; held-out segments are left out.
        recent: More segments than are held out, the newest last.
        seed: Seed of the draws; equal arguments give an equal candidate.
    """
    learned, decide = recent[: -config.num_held_out], recent[-config.num_held_out :]
    running = get_segment_residual(decide[-1])
    old = [chapter for chapter in sampled if chapter.number[0] < decide[0].number[0]]
    with torch.no_grad():
        lessons = [
            collect_moments(model, chapters, running, config) for chapters in (learned, old) if chapters
        ]
    candidate = fit_residual(model, running, lessons, seed=seed, config=config)
    return candidate, evaluate_candidate(model, candidate, running, decide, config)


def fit_residual(
    model: WorldModel,
    current: TensorResidual,
    moment_sets: Sequence[StartMoments],
    *,
    seed: int,
    config: ResidualFitConfig,
) -> TensorResidual:
    """Fit the residual with the least imagination error, starting from the current one.

    Args:
        moment_sets: Sets of moments; each gives an equal share of a gradient step.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = _initialise_fit(current, generator)
    optimizer = torch.optim.Adam(list_values(weights), lr=config.learning_rate)
    sizes = compute_weight_norms(model)
    each = max(1, config.batch_size // len(moment_sets))
    for update in range(config.updates):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, 2 * (1 - update / config.updates))
        drawn = [_sample_moments(lesson, each, generator) for lesson in moment_sets]
        # A separate mean for each row: rows of a batch are fitted as each would be alone.
        loss = torch.stack(
            [compute_imagination_error(model, lesson, weights).mean() for lesson in drawn]
        ).mean()
        loss = loss + config.anchor_weight * sum(
            part.square().mean() for part in compute_relative_norms(weights, sizes).values()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return limit_norm(map_values(Tensor.detach, weights), sizes, config.max_relative_norm)


def compute_imagination_error(
    model: WorldModel, moments: StartMoments, residual: TensorResidual
) -> Float[Tensor, "B"]:
    """Compute the mean Huber error over the horizon, in units of the one-step change."""
    count = moments.obs.shape[1]
    state = map_values(lambda value: value.flatten(0, 1), moments.state)
    state = state.with_residual(map_values(lambda value: value.repeat_interleave(count, 0), residual))
    z = model.observe(state, moments.obs.flatten(0, 1))
    mean, _ = model.imagine(state, z, moments.action.flatten(0, 1)[:, None])
    error = model.channels.subtract(mean[:, 0], moments.next_obs.flatten(0, 1)) / model.change_std
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none").mean((1, 2))
    known = moments.is_valid
    return (huber.unflatten(0, known.shape) * known).sum(1) / known.sum(1).clamp_min(1)


def collect_moments(
    model: WorldModel,
    segments: Sequence[ExperienceSegment],
    residual: TensorResidual,
    config: ResidualFitConfig,
) -> StartMoments:
    """Replay segments in parallel, each from its start state, and collect moments."""
    batch, count = len(segments[0].number), len(segments)

    def side_by_side(*values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.stack(values, 1)).flatten(0, 1)

    steps: Step[Tensor] = convert_values(side_by_side, *(chapter.steps for chapter in segments))
    state: LifetimeState[Tensor] = convert_values(side_by_side, *(chapter.start for chapter in segments))
    known, found = _find_valid_starts(model, steps, config.horizon), []
    state = state.with_residual(map_values(lambda value: value.repeat_interleave(count, 0), residual))
    for t in range(steps.obs.shape[1] - config.horizon + 1):
        if t % config.stride == 0:
            ahead = slice(t, t + config.horizon)
            lesson = steps.obs[:, t], steps.action[:, ahead], steps.next_obs[:, ahead], known[:, t]
            found.append((_select_read_view(model, state), lesson))
        _, state = model.update(state, _get_step(steps, t))

    def of_lives(*values: Tensor) -> Tensor:
        return torch.stack(values, 1).unflatten(0, (batch, count)).flatten(1, 2)

    states, lessons = zip(*found, strict=True)
    return StartMoments(map_values(of_lives, *states), *map_values(of_lives, *lessons))


@torch.inference_mode()
def evaluate_candidate(
    model: WorldModel,
    candidate: TensorResidual,
    current: TensorResidual,
    segments: Sequence[ExperienceSegment],
    config: ResidualFitConfig,
) -> CandidateErrors:
    """Evaluate each residual by imagination while these segments are replayed in sequence.

    All start from the memories of the current residual; the first segment lets them settle.
    """
    nothing = map_values(torch.zeros_like, current)
    tried, is_, without = (
        replay_error(model, residual, segments, config).numpy() for residual in (candidate, current, nothing)
    )
    return CandidateErrors(tried, is_, without, config.margin)


def replay_error(
    model: WorldModel,
    residual: TensorResidual,
    segments: Sequence[ExperienceSegment],
    config: ResidualFitConfig,
) -> Float[Tensor, "B"]:
    """Compute the mean Huber error of imagination while segments are replayed in sequence, without the first."""

    def one_after_another(*values: np.ndarray) -> Tensor:
        return torch.cat([torch.from_numpy(value) for value in values], 1)

    steps: Step[Tensor] = convert_values(one_after_another, *(chapter.steps for chapter in segments))
    known = _find_valid_starts(model, steps, config.horizon)
    settled = segments[0].steps.obs.shape[1] if len(segments) > 1 else 0
    state, errors, counted = _get_start_state(segments[0]).with_residual(residual), [], []
    for t in range(steps.obs.shape[1] - config.horizon + 1):
        if t >= settled and t % config.stride == 0:
            ahead = slice(t, t + config.horizon)
            z = model.observe(state, steps.obs[:, t])
            mean, _ = model.imagine(state, z, steps.action[:, None, ahead])
            error = model.channels.subtract(mean[:, 0], steps.next_obs[:, ahead]) / model.change_std
            errors.append(
                F.huber_loss(error, torch.zeros_like(error), reduction="none").mean((1, 2)) * known[:, t]
            )
            counted.append(known[:, t])
        _, state = model.update(state, _get_step(steps, t))
    return torch.stack(errors).sum(0) / torch.stack(counted).sum(0).clamp_min(1)


def compute_weight_norms(model: WorldModel) -> dict[str, float]:
    """Compute the norm of the weights that each part of a residual corrects."""
    first = torch.cat([model.input_layer.weight, model.linear_skip.weight])
    sizes = {"first": first, "last": cast(Tensor, model.output_head[1].weight)[: model.config.obs]}
    for i, memory in enumerate(model.memory_layers):
        if (reading := memory.film_readout) is not None:
            sizes[f"read.{i}"] = reading.modulate.weight
    return {part: float(weight.norm()) for part, weight in sizes.items()}


def compute_relative_norms(
    residual: TensorResidual, weight_norms: Mapping[str, float]
) -> dict[str, Float[Tensor, "B"]]:
    """Compute the norm of each part, relative to the norm of the corrected weights."""
    return {
        name: (part.up @ part.down).norm(dim=(1, 2)) / weight_norms[name]
        for name, part in residual.parts.items()
    }


def limit_norm(
    residual: TensorResidual, weight_norms: Mapping[str, float], max_relative_norm: float
) -> TensorResidual:
    """Scale down parts of a residual whose relative norm exceeds the bound."""
    relative = compute_relative_norms(residual, weight_norms)

    def shrink(name: str, part: LowRank[Tensor]) -> LowRank[Tensor]:
        return replace(
            part,
            up=part.up * (max_relative_norm / relative[name].clamp_min(max_relative_norm))[:, None, None],
        )

    return residual.map_parts(shrink)


def _initialise_fit(current: TensorResidual, generator: torch.Generator) -> TensorResidual:
    """Return the start value of the fit: a zero residual gets random directions, and stays zero."""

    def begin(_: str, part: LowRank[Tensor]) -> LowRank[Tensor]:
        # The same for all rows, whatever the batch.
        directions = 0.1 * torch.randn(1, *part.down.shape[1:], generator=generator)
        unused = ~part.down.flatten(1).any(1)[:, None, None]
        return LowRank(torch.where(unused, directions, part.down), part.up.clone())

    return map_values(Tensor.requires_grad_, current.map_parts(begin))


def _sample_moments(moments: StartMoments, num_moments: int, generator: torch.Generator) -> StartMoments:
    """Sample moments, the same for all rows."""
    index = torch.randint(moments.obs.shape[1], (num_moments,), generator=generator)
    state = map_values(lambda value: value[:, index], moments.state)
    return StartMoments(state, *(x[:, index] for x in moments[1:]))


def _get_start_state(segment: ExperienceSegment) -> LifetimeState[Tensor]:
    """Return the state before a segment, as tensors."""
    state: LifetimeState[Tensor] = convert_values(torch.as_tensor, segment.start)
    return state


def _select_read_view(model: WorldModel, state: LifetimeState[Tensor]) -> LifetimeState[Tensor]:
    """Return the part of a state that `WorldModel.imagine` reads, without the residual."""
    layers = zip(model.memory_layers, state.memory, strict=True)
    memory = tuple(layer.read_view(part) for layer, part in layers)
    return LifetimeState(state.step, state.recent, LearnedState(memory))


def _get_step(steps: Step[Tensor], t: int) -> Step[Tensor]:
    return map_values(lambda value: value[:, t], steps)


def _find_valid_starts(model: WorldModel, steps: Step[Tensor], horizon: int) -> Float[Tensor, "B T"]:
    """Return 1 where the steps up to the horizon are valid and consecutive."""
    # The next observation of a step may have other turns of an angle that wraps, which are rounded.
    apart = model.channels.subtract(steps.next_obs[:, :-1], steps.obs[:, 1:]).abs()
    follows = F.pad((apart <= ANGLE_ROUNDING * model.channels.periods).all(-1), (0, 1), value=True)
    whole = steps.valid.unfold(1, horizon, 1).amin(-1) > 0
    joined = follows.unfold(1, horizon, 1)[..., :-1].all(-1)
    return F.pad((whole & joined).float(), (0, horizon - 1))
