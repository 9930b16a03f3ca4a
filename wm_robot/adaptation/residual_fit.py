"""Consolidation: the residual of a life, fitted to what its memories leave over and tried before it is believed.

Encoder, memories, heads and the base's weights stay as they are. The life's own chapters are lived again, and from
moments of them the model imagines what the robot then did; gradients reach the residual alone, which is drawn to zero
and may grow no larger than a part of the weights that it stands beside.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wm_robot.adaptation.candidate import Candidate, ConsolidateConfig, Verdict
from wm_robot.adaptation.experience_buffer import NUMBER, STEP, Chapter, Reservoir
from wm_robot.memory.film import ModulatedRead
from wm_robot.memory.memory import State
from wm_robot.model.residual import DOWN, FIRST, LAST, READ, UP, parts_of, residual_of
from wm_robot.model.torch_backend import arrays
from wm_robot.model.world_model import WorldModel


class Moments(NamedTuple):
    """Moments of lives, `B N …`, from which what came is known."""

    state: State
    """What imagining reads of it."""
    obs: Tensor
    action: Float[Tensor, "B N H A"]
    following: Float[Tensor, "B N H O"]
    known: Float[Tensor, "B N"]
    """0 where a step ahead is invalid."""


class Consolidation:
    """Takes the chapters of a life, or of several side by side, and now and then gives a candidate."""

    def __init__(
        self, model: WorldModel, config: ConsolidateConfig | None = None, past: Reservoir | None = None
    ):
        """Args:
        past: What was lived before.
        """
        self.model, self.config, self.past = model, config or ConsolidateConfig(), past or Reservoir()

    def take(self, chapter: Chapter) -> Candidate | None:
        """One chapter more; a candidate, if one is due.

        Chapters may be missing: what decides on a candidate must be whole.
        """
        self.past = past = self.past.with_chapter(chapter)
        number, held_out = int(chapter[NUMBER][0]), self.config.held_out
        if (number + 1) % self.config.interval or len(past.latest) <= held_out:
            return None
        if number - past.latest[-held_out][NUMBER][0] != held_out - 1:
            return None
        residual, verdict = consolidated(self.model, past.kept, past.latest, seed=number, config=self.config)
        return Candidate(arrays(residual), verdict, number)


def running_of(chapter: Chapter) -> State:
    """The residual that a chapter was lived with."""
    return residual_of(_state(chapter))


@torch.inference_mode(mode=False)
def consolidated(
    model: WorldModel,
    kept: Sequence[Chapter],
    latest: Sequence[Chapter],
    *,
    seed: int,
    config: ConsolidateConfig,
) -> tuple[State, Verdict]:
    """A candidate for the residual of each life, and how it did on chapters that it did not learn from.

    The running one is that which the last chapter was lived with.

    Args:
        kept: A fair sample of the whole life; what is held out is not learned from.
        latest: More chapters than are held out, the newest last.
        seed: Of what is drawn; equal arguments give an equal candidate.
    """
    learned, decide = latest[: -config.held_out], latest[-config.held_out :]
    running = running_of(decide[-1])
    old = [chapter for chapter in kept if chapter[NUMBER][0] < decide[0][NUMBER][0]]
    with torch.no_grad():
        lessons = [moments(model, chapters, running, config) for chapters in (learned, old) if chapters]
    candidate = fitted(model, running, lessons, seed=seed, config=config)
    return candidate, judged(model, candidate, running, decide, config)


def fitted(
    model: WorldModel,
    running: State,
    lessons: Sequence[Moments],
    *,
    seed: int,
    config: ConsolidateConfig,
) -> State:
    """The residual that imagines these moments best, begun from the running one.

    Args:
        lessons: Equal parts of an update come from each.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = _begun(running, generator)
    optimizer = torch.optim.Adam(weights.values(), lr=config.rate)
    sizes = beside(model)
    each = max(1, config.moments // len(lessons))
    for update in range(config.updates):
        for group in optimizer.param_groups:
            group["lr"] = config.rate * min(1.0, 2 * (1 - update / config.updates))
        drawn = [_drawn(lesson, each, generator) for lesson in lessons]
        # Of each life its own mean: lives side by side are fitted as each would be alone.
        loss = torch.stack([imagined_error(model, lesson, weights).mean() for lesson in drawn]).mean()
        loss = loss + config.anchor * sum(
            part.square().mean() for part in relative_size(weights, sizes).values()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return bounded({name: value.detach() for name, value in weights.items()}, sizes, config.largest)


def imagined_error(model: WorldModel, lesson: Moments, residual: State) -> Float[Tensor, "B"]:
    """Mean Huber error over the horizon, in units of the one-step change."""
    count = lesson.obs.shape[1]
    state = {name: value.flatten(0, 1) for name, value in lesson.state.items()}
    state |= {name: value.repeat_interleave(count, 0) for name, value in residual.items()}
    z = model.observe(state, lesson.obs.flatten(0, 1))
    mean, _ = model.imagine(state, z, lesson.action.flatten(0, 1)[:, None])
    error = (mean[:, 0] - lesson.following.flatten(0, 1)) / model.change_std
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none").mean((1, 2))
    known = lesson.known
    return (huber.unflatten(0, known.shape) * known).sum(1) / known.sum(1).clamp_min(1)


def moments(
    model: WorldModel, chapters: Sequence[Chapter], residual: State, config: ConsolidateConfig
) -> Moments:
    """Moments of chapters that are lived again side by side, each from its own beginning."""
    batch, count = len(chapters[0]["obs"]), len(chapters)
    stacked = {name: np.stack([chapter[name] for chapter in chapters], 1) for name in chapters[0]}
    rows = {name: torch.from_numpy(value).flatten(0, 1) for name, value in stacked.items()}
    obs, action, next_obs, valid = (rows[name] for name in STEP)
    known, found = _known_ahead(obs, next_obs, valid, config.horizon), []
    alike = {name: value.repeat_interleave(count, 0) for name, value in residual.items()}
    state, steps = _state(rows) | alike, obs.shape[1]
    for t in range(steps - config.horizon + 1):
        if t % config.every == 0:
            ahead = slice(t, t + config.horizon)
            found.append(
                (model.readable(state), obs[:, t], action[:, ahead], next_obs[:, ahead], known[:, t])
            )
        _, state = model.write(state, obs[:, t], action[:, t], next_obs[:, t], valid[:, t])

    def of_lives(values: Iterable[Tensor]) -> Tensor:
        return torch.stack(list(values), 1).unflatten(0, (batch, count)).flatten(1, 2)

    states, *parts = zip(*found, strict=True)
    together = {name: of_lives([each[name] for each in states]) for name in states[0] if name not in residual}
    return Moments(together, *(of_lives(part) for part in parts))


@torch.inference_mode()
def judged(
    model: WorldModel,
    candidate: State,
    running: State,
    chapters: Sequence[Chapter],
    config: ConsolidateConfig,
) -> Verdict:
    """What each residual foresees while these chapters, one after another, are lived again.

    All begin from the memories that were lived with the running one; the first chapter is to settle in.
    """
    nothing = {name: torch.zeros_like(value) for name, value in running.items()}
    tried, is_, without = (
        foreseen(model, residual, chapters, config).numpy() for residual in (candidate, running, nothing)
    )
    return Verdict(tried, is_, without, config.margin)


def foreseen(
    model: WorldModel, residual: State, chapters: Sequence[Chapter], config: ConsolidateConfig
) -> Float[Tensor, "B"]:
    """Mean Huber error of what is imagined while chapters are lived one after another, without the first."""
    start = _state(chapters[0])
    obs, action, next_obs, valid = (
        torch.cat([torch.from_numpy(chapter[name]) for chapter in chapters], 1) for name in STEP
    )
    known = _known_ahead(obs, next_obs, valid, config.horizon)
    settled = chapters[0]["obs"].shape[1] if len(chapters) > 1 else 0
    state, errors, counted = start | residual, [], []
    for t in range(obs.shape[1] - config.horizon + 1):
        if t >= settled and t % config.every == 0:
            ahead = slice(t, t + config.horizon)
            mean, _ = model.imagine(state, model.observe(state, obs[:, t]), action[:, None, ahead])
            error = (mean[:, 0] - next_obs[:, ahead]) / model.change_std
            errors.append(
                F.huber_loss(error, torch.zeros_like(error), reduction="none").mean((1, 2)) * known[:, t]
            )
            counted.append(known[:, t])
        _, state = model.write(state, obs[:, t], action[:, t], next_obs[:, t], valid[:, t])
    return torch.stack(errors).sum(0) / torch.stack(counted).sum(0).clamp_min(1)


# --- how large a residual may be ------------------------------------------------------------------------------


def beside(model: WorldModel) -> dict[str, float]:
    """Size of the weights that each part of a residual stands beside."""
    first = torch.cat([model.ask.weight, model.skip.weight])
    sizes = {FIRST: first, LAST: cast(Tensor, model.head[1].weight)[: model.config.obs]}
    for i, memory in enumerate(model.memories):
        reading = getattr(memory, "reading", None)
        if isinstance(reading, ModulatedRead):
            sizes[f"{READ}.{i}"] = reading.modulate.weight
    return {part: float(weight.norm()) for part, weight in sizes.items()}


def relative_size(residual: State, sizes: Mapping[str, float]) -> dict[str, Float[Tensor, "B"]]:
    """Size of each part, in parts of the weights beside it."""
    return {
        part: (residual[part + UP] @ residual[part + DOWN]).norm(dim=(1, 2)) / sizes[part]
        for part in parts_of(residual)
    }


def bounded(residual: State, sizes: Mapping[str, float], largest: float) -> State:
    """The residual, made smaller where it is too large."""
    shrunk = dict(residual)
    for part, size in relative_size(residual, sizes).items():
        shrunk[part + UP] = residual[part + UP] * (largest / size.clamp_min(largest))[:, None, None]
    return shrunk


def _begun(running: State, generator: torch.Generator) -> State:
    """Where the fit begins: a residual of zero gets directions to look in, and stays zero."""
    begun = {}
    for part in parts_of(running):
        down, up = running[part + DOWN], running[part + UP]
        # The same for all lives, whichever are side by side.
        directions = 0.1 * torch.randn(1, *down.shape[1:], generator=generator)
        unused = ~down.flatten(1).any(1)[:, None, None]
        begun[part + DOWN] = torch.where(unused, directions, down)
        begun[part + UP] = up.clone()
    return {name: value.requires_grad_() for name, value in begun.items()}


def _drawn(lesson: Moments, count: int, generator: torch.Generator) -> Moments:
    """Some moments, the same for all lives."""
    index = torch.randint(lesson.obs.shape[1], (count,), generator=generator)
    return Moments(
        {name: value[:, index] for name, value in lesson.state.items()}, *(x[:, index] for x in lesson[1:])
    )


def _state(chapter: Mapping[str, Any]) -> State:
    """The life before a chapter."""
    return {name: torch.as_tensor(value) for name, value in chapter.items() if name not in (*STEP, NUMBER)}


def _known_ahead(obs: Tensor, next_obs: Tensor, valid: Tensor, horizon: int) -> Float[Tensor, "B T"]:
    """1 where the steps from here to the horizon are valid and follow one another."""
    follows = F.pad((next_obs[:, :-1] == obs[:, 1:]).all(-1), (0, 1), value=True)
    whole = valid.unfold(1, horizon, 1).amin(-1) > 0
    joined = follows.unfold(1, horizon, 1)[..., :-1].all(-1)
    return F.pad((whole & joined).float(), (0, horizon - 1))
