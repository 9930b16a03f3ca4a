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
    MemoryState,
    PhysicsInference,
    StepPrediction,
)
from wm_robot.model.backend import Prediction
from wm_robot.model.config import LOG_VARIANCE_BOUNDS

if TYPE_CHECKING:
    from wm_robot.model.world_model import WorldModel


def infer_physics(
    model: "WorldModel",
    inference: PhysicsInference,
    state: LifetimeState[Tensor],
    obs: Float[Tensor, "B Tplus1 O"],
    h: Float[Tensor, "B T D"],
    straight: Float[Tensor, "B T O"],
    valid: Float[Tensor, "B T"],
    measured: Float[Tensor, "B T O"] | None = None,
    frozen: Prediction[Tensor] | None = None,
) -> tuple[Prediction[Tensor], MemoryState]:
    """Predict steps in sequence under each hypothesis, and update the memory after each.

    Args:
        inference: Of the model's only memory layer.
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
