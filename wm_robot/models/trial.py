"""A residual on trial, always: beside the life that has one lives the same life without, and takes over where it
expects better.

A bad residual costs a moment then, however it came about. What stands beside is part of the state, so that a life that
was stopped is judged on as one that was not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wm_robot.errors import ConfigError
from wm_robot.lifetime.memory import State, beside
from wm_robot.models.recall import Writes, unsettled
from wm_robot.models.residual import has_residual, residual_of, without_residual
from wm_robot.models.world_model import Prediction

WITHOUT, OWN = "without.", "trial."


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """When a residual is given up."""

    window: int = 25
    """Steps that are compared: half a second at 50 Hz."""
    worse: float = 1.1
    """Factor on the squared error without it, beyond which it is given up."""
    slack: float = 0.1
    """Squared error, in predicted variances, by which it may be worse at any rate: errors below the noise say
    nothing."""
    clip: float = 16.0
    """Squared error of a channel, in predicted variances, that counts no worse if it is larger."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"trial.window is {self.window}; it must be at least 1")


class Trial:
    """Lives lives with a residual. Everything it knows is in the state."""

    def __init__(self, lives: Writes, alone: Writes, config: TrialConfig | None = None):
        """Args:
        lives: What lives step by step: a model, its graphs, or the recall of either.
        alone: What the life without lives by: a model or its graphs.
        """
        self.lives, self.alone, self.config = lives, alone, config or TrialConfig()

    def birth(self, state: State) -> State:
        """The same newborn lives, on trial."""
        batch = len(state["step"])
        count = torch.zeros(batch, dtype=torch.int64)
        own = {
            # Of the last steps, with and without; a step that was not seen counts for neither.
            "errors": torch.zeros(batch, self.config.window, 2),
            "promotions": count.clone(),
            "rollbacks": count.clone(),
        }
        return state | _twin(state) | {OWN + name: value for name, value in own.items()}

    def promoted(self, state: State, residual: State, chosen: Bool[Tensor, "B"]) -> State:
        """The lives that are chosen, with another residual: it is read from the next step on."""
        changed = _where(chosen, residual, state)
        fresh = torch.where(beside(chosen, state[OWN + "errors"]), 0.0, state[OWN + "errors"])
        own = {OWN + "errors": fresh, OWN + "promotions": state[OWN + "promotions"] + chosen}
        return unsettled(state | changed | own, chosen)

    def write(
        self,
        state: State,
        obs: Float[Tensor, "B O"],
        action: Float[Tensor, "B A"],
        next_obs: Float[Tensor, "B O"],
        valid: Float[Tensor, "B"],
        truth: Tensor | None = None,
    ) -> tuple[Prediction, State]:
        """Live one transition, as `WorldModel.write`; then give up a residual that expected worse than none."""
        tried = has_residual(state)
        predicted, after = self.lives.write(state, obs, action, next_obs, valid, truth)
        after = state | after
        if not tried.any():
            return predicted, after | _twin(after)
        expected, twin = self.alone.write(_without(state), obs, action, next_obs, valid, truth)
        errors = self._judged(state[OWN + "errors"], predicted, expected, next_obs, valid)
        worse = tried & (valid > 0) & self._worse(errors)
        kept = tried & has_residual(after) & ~worse
        found = {name: value for name, value in twin.items() if name[0].isdigit()}
        # Without a residual both are the same life.
        own = {name: value for name, value in after.items() if name[0].isdigit()}
        beside_it = {WITHOUT + name: value for name, value in _where(kept | worse, found, own).items()}
        given_up = _where(worse, found | residual_of(without_residual(after)), after)
        counted = {
            OWN + "errors": torch.where(beside(kept, errors), errors, 0.0),
            OWN + "rollbacks": state[OWN + "rollbacks"] + worse,
        }
        return predicted, unsettled(after | beside_it | given_up | counted, worse)

    def _judged(
        self, errors: Tensor, predicted: Prediction, expected: Prediction, outcome: Tensor, valid: Tensor
    ) -> Float[Tensor, "B W 2"]:
        """The window after a step. Both errors are in the deviations that are predicted without a residual."""
        both = torch.stack([predicted.mean, expected.mean], -1)
        square = (outcome[..., None] - both).square() * torch.exp(-expected.log_variance)[..., None]
        now = square.clamp_max(self.config.clip).mean(1)
        # A step that was not seen may hold anything.
        now = torch.where((valid > 0)[:, None], now, 0.0)
        return torch.cat([errors[:, 1:], now[:, None]], 1)

    def _worse(self, errors: Float[Tensor, "B W 2"]) -> Bool[Tensor, "B"]:
        own, without = errors.mean(1).unbind(-1)
        return own > self.config.worse * without + self.config.slack


def compared(state: State) -> Float[np.ndarray, "B 2"]:
    """Mean squared error of the last moment with a residual and without, in predicted variances."""
    return state[OWN + "errors"].mean(1).numpy()


def _twin(state: State) -> State:
    return {WITHOUT + name: value for name, value in state.items() if name[0].isdigit()}


def _without(state: State) -> State:
    """The life without a residual, at the same moment."""
    twin = {name.removeprefix(WITHOUT): value for name, value in state.items() if name.startswith(WITHOUT)}
    return without_residual(residual_of(state)) | twin | {name: state[name] for name in ("step", "recent")}


def _where(chosen: Bool[Tensor, "B"], one: State, other: State) -> State:
    """Of lives that are chosen the one, of others the other."""
    return {name: torch.where(beside(chosen, value), value, other[name]) for name, value in one.items()}
