"""Physics inference: updates a memory that infers physics, with a prediction under each hypothesis."""

from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.pullback import pullback
from wm_robot.memory.film import make_read_state
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.memory.memory import (
    HypothesisPrediction,
    InferenceStep,
    MappedPrediction,
    MemoryState,
    PhysicsInference,
    StepPrediction,
)
from wm_robot.model.backend import Prediction
from wm_robot.model.config import LOG_VARIANCE_BOUNDS
from wm_robot.model.input_layer import make_input_layer

if TYPE_CHECKING:
    from wm_robot.model.world_model import WorldModel

MIN_MAP_STEP = 0.05
"""Least change of a command in a difference quotient, in its unit."""


def infer_physics(
    model: "WorldModel",
    inference: PhysicsInference,
    state: LifetimeState[Tensor],
    obs: Float[Tensor, "B Tplus1 O"],
    known: Float[Tensor, "B RplusT A"],
    h: Float[Tensor, "B T D"],
    straight: Float[Tensor, "B T O"],
    valid: Float[Tensor, "B T"],
    measured: Float[Tensor, "B T O"] | None = None,
    frozen: Prediction[Tensor] | None = None,
) -> tuple[Prediction[Tensor], MemoryState]:
    """Predict steps in sequence under each hypothesis, and update the memory after each.

    Args:
        inference: Of the model's only memory layer.
        known: Commands: the recent ones before the first step, then those of the steps.
        h: First hidden layer of each step.
        straight: Linear sensor change of each step, in units of the one-step change.
        measured: 0 for a channel of an outcome that is no reading; None: all are readings.
        frozen: Predictions of the frozen network, for a memory that competes with one.
    """
    part, age = state.memory[0], state.step
    changes, spreads = [], []
    happened = model.channels.subtract(obs[:, 1:], obs[:, :-1]) / model.change_std - straight
    for t in range(h.shape[1]):
        step = InferenceStep(
            age,
            partial(predict_under_physics, model, inference, state, h[:, t]),
            model.norms[0](h[:, t]),
            happened[:, t],
            valid[:, t],
            None if measured is None else measured[:, t],
            None if frozen is None else _convert_frozen(model, frozen, obs, straight, t),
        )
        if model.memory_layers[0].maps_commands:
            step = step._replace(
                commands=(known[:, -1] - model.action_mean) / model.action_std,
                predict_mapped=partial(predict_under_map, model, state, obs[:, 0], known, straight[:, 0]),
            )
        predicted, part = inference.infer_physics(part, step)
        age = age + (valid[:, t] > 0)
        changes.append(predicted.mean)
        spreads.append(predicted.log_variance)
    change = torch.stack(changes, 1) + straight
    mean = obs[:, :-1] + change * model.change_std
    mean = model.channels.restore_rotations(mean, normalised=False)
    return Prediction(mean, torch.stack(spreads, 1) + 2 * model.change_std.log()), part


def _convert_frozen(
    model: "WorldModel", frozen: Prediction[Tensor], obs: Tensor, straight: Tensor, t: int
) -> StepPrediction:
    """Convert a step of the frozen predictions to the units of the hypotheses."""
    change = model.channels.subtract(frozen.mean[:, t], obs[:, t]) / model.change_std
    return StepPrediction(change - straight[:, t], frozen.log_variance[:, t] - 2 * model.change_std.log())


def predict_under_physics(
    model: "WorldModel",
    inference: PhysicsInference,
    state: LifetimeState[Tensor],
    h: Float[Tensor, "B D"],
    physics: Float[Tensor, "B K P"],
) -> HypothesisPrediction:
    """Predict the nonlinear sensor change under each hypothesis, in units of the one-step change."""
    assert state.residual is not None, "the state has no residual"
    channels, last = model.config.obs, state.residual.last
    each = h[:, None].expand(-1, physics.shape[1], -1)
    read, to_physics = inference.read_with_pullback(physics, model.norms[0](each), make_read_state(state, 0))
    mixed, to_read = pullback(model.feed_forward[0], each + read)
    normal, to_mixed = pullback(model.output_head[0], each + read + mixed)
    change, spread, _ = model.split_head(normal, state)
    weight = cast(Tensor, model.output_head[1].weight)[:channels] + last.up @ last.down
    through = to_mixed(weight.movedim(1, 0)[:, :, None])
    slope = to_physics(through + to_read(through))
    return HypothesisPrediction(change, spread.clamp(*LOG_VARIANCE_BOUNDS), slope.movedim(0, 2))


def predict_under_map(
    model: "WorldModel",
    state: LifetimeState[Tensor],
    obs: Float[Tensor, "B O"],
    known: Float[Tensor, "B Rplus1 A"],
    straight: Float[Tensor, "B O"],
    command_map: Float[Tensor, "B A F"],
    deviation: Float[Tensor, "B A"],
    physics: Float[Tensor, "B P"],
) -> MappedPrediction:
    """Predict one step under a command map, with the derivative by its command.

    The derivative is a difference quotient of the last command over its deviation, two queries for each command: a
    motor at its torque limit has no local one.

    Args:
        deviation: Of each command that acts, in its unit.
        straight: Linear change under the map in use, which the result is relative to.
    """
    acting = model.apply_map(command_map, known)
    recent, command = acting[:, :-1], acting[:, -1:]
    size = deviation.clamp_min(MIN_MAP_STEP)
    apart = torch.diag_embed(size * model.command_unit)
    moved = torch.cat([command, command + apart, command - apart], 1)
    latent = model.channels.expand(model.encode(obs, recent))
    held = (x[:, None].expand(-1, moved.shape[1], -1) for x in (latent, recent[:, -1]))
    h, linear = make_input_layer(model, state).apply(torch.cat([*held, moved], -1))
    query = model.norms[0](h)
    read = model.memory_layers[0].open_reader(make_read_state(state, 0) | {"physics": physics})
    change, spread, _ = model.split_head(model.output_head[0](model.apply_block(0, h, read(query))), state)
    mean = change + linear
    more, less = mean[:, 1:].chunk(2, 1)
    slope = (more - less) / (2 * size[..., None])
    return MappedPrediction(
        mean[:, 0] - straight, spread[:, 0].clamp(*LOG_VARIANCE_BOUNDS), query[:, 0], slope.mT
    )
