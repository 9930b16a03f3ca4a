"""Gradient learner: a network of frozen weights that each robot goes on training on its own life, by gradient."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from wm_robot.evaluation.online_learner import OnlineLearner
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

HUBER_DELTA = 3.0
"""As in training, in units of the one-step change."""
LAST_LAYER = "output_head."
UNUSED = ("physics_head.", "outcome_encoder.")
"""Parts that predict nothing."""
WEIGHT, FIRST, SECOND = "weight.", "first.", "second."
"""Prefixes of each robot's weights, and of the moments of their gradients."""


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """Config of the learning by gradient."""

    layers: Literal["all", "last"] = "all"
    """Layers that learn."""
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 3e-4
    num_segments: int = 8
    """Segments of the own life in a gradient step; the newest is one of them."""
    horizon: int = 8
    """Steps that are imagined from the start of each segment, as in the measure of the bench."""
    steps_per_update: int = 1
    """Control steps between two gradient steps."""
    decay: float = 0.0
    """Share of the way back to the trained weights, of each gradient step."""
    first_moment: float = 0.9
    second_moment: float = 0.99


class GradientLearner(OnlineLearner):
    """Model whose weights are the lifetime state of each robot: `WorldModel` in what evaluation uses of it."""

    def __init__(self, model: WorldModel, config: GradientConfig):
        """Args:
        model: Trained network without a memory.
        """
        super().__init__(model)
        self.learning, self._call = config, _ModelCall(model)
        self._frozen = {name: value.detach() for name, value in self._call.named_parameters()}
        self._frozen |= {name: value.detach() for name, value in self._call.named_buffers()}
        kept = f"model.{LAST_LAYER}" if config.layers == "last" else "model."
        unused = tuple(f"model.{name}" for name in UNUSED)
        self._learned = [
            name
            for name, _ in self._call.named_parameters()
            if name.startswith(kept) and not name.startswith(unused)
        ]

    def initial_state(
        self, *, initial_action: Float[Tensor, "B A"], truth: Tensor | None = None
    ) -> LifetimeState[Tensor]:
        """See `WorldModel.initial_state`."""
        batch, c = len(initial_action), self.config
        memory: dict[str, Tensor] = {
            "obs": initial_action.new_zeros(batch, 0, c.obs),
            "outcome": initial_action.new_zeros(batch, 0, c.obs),
            # The actions in force before the first step, then those of the steps.
            "action": initial_action[:, None].expand(-1, c.recent, -1),
        }
        for name in self._learned:
            value = self._frozen[name]
            memory[WEIGHT + name] = value.expand(batch, *value.shape)
            if self.learning.optimizer == "adam":
                for prefix in (FIRST, SECOND):
                    memory[prefix + name] = value.new_zeros(1).expand(batch, *value.shape)
        return LifetimeState(
            step=torch.zeros(batch, dtype=torch.int64),
            recent=initial_action[:, None].expand(-1, c.recent, -1),
            learned=LearnedState((memory,)),
        )

    def update(
        self, state: LifetimeState[Tensor], step: Step[Tensor]
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """Predict a step, then take a gradient step if one is due."""
        z = self.observe(state, step.obs)
        mean, log_variance = self.imagine(state, z, step.action[:, None, None])
        memory = dict(state.memory[0])
        for name, value in (("obs", step.obs), ("outcome", step.next_obs), ("action", step.action)):
            memory[name] = torch.cat([memory[name], value[:, None]], 1)
        number = int(state.step[0])
        if (number + 1) % self.learning.steps_per_update == 0:
            memory |= self._take_gradient_step(memory, number)
        return Prediction(mean[:, 0, 0], log_variance[:, 0, 0]), replace(
            state,
            step=state.step + 1,
            recent=torch.cat([state.recent[:, 1:], step.action[:, None]], 1),
            learned=LearnedState((memory,)),
        )

    def observe(self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"]) -> Float[Tensor, "B Z"]:
        """See `WorldModel.observe`; the encoder too is each robot's own."""
        found: Tensor = self._map_robots("observe", state, state.recent, obs)
        return found

    def imagine(
        self, state: LifetimeState[Tensor], z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]
    ) -> Prediction[Tensor]:
        """See `WorldModel.imagine`."""
        return Prediction(*self._map_robots("imagine", state, state.recent, z, actions))

    def _map_robots(self, method: str, state: LifetimeState[Tensor], *rows: Tensor) -> Any:
        """Call a method of the model for each robot with its own weights."""

        def call(weights: Mapping[str, Tensor], *row: Tensor) -> Any:
            return functional_call(self._call, {**self._frozen, **weights}, (method, *row))

        return vmap(call)(self._get_weights(state.memory[0]), *rows)

    def _get_weights(self, memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: memory[WEIGHT + name] for name in self._learned}

    def _take_gradient_step(self, memory: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
        """Return the weights and moments after a gradient step on segments of the own life.

        Args:
            number: Number of the control step.
        """
        own = self._get_weights(memory)
        # Evaluation runs without gradients, and its tensors cannot take part in one.
        with torch.inference_mode(False), torch.no_grad():
            own = {name: value.clone() for name, value in own.items()}
            segments = [value.clone() for value in self._draw_segments(memory, number)]
            slopes = vmap(grad(self._compute_loss))(own, *segments)
        return self._apply_gradients(memory, own, slopes, number)

    def _draw_segments(self, memory: Mapping[str, Tensor], number: int) -> tuple[Tensor, ...]:
        """Draw segments of the own life: recent actions, first observation, actions, and outcomes."""
        lived = memory["obs"].shape[1]
        horizon = min(self.learning.horizon, lived)
        newest, recent = lived - horizon, self.config.recent
        generator = torch.Generator().manual_seed(number)
        others = torch.randint(newest + 1, (self.learning.num_segments - 1,), generator=generator)
        starts = torch.cat([torch.tensor([newest]), others])
        ahead = starts[:, None] + torch.arange(horizon)
        return (
            memory["action"][:, starts[:, None] + torch.arange(recent)],
            memory["obs"][:, starts],
            memory["action"][:, recent + ahead],
            memory["outcome"][:, ahead],
        )

    def _compute_loss(
        self,
        weights: Mapping[str, Tensor],
        recent: Float[Tensor, "N R A"],
        obs: Float[Tensor, "N O"],
        action: Float[Tensor, "N H A"],
        outcome: Float[Tensor, "N H O"],
    ) -> Tensor:
        """Compute the open-loop error of one robot, as in training."""
        mean = functional_call(self._call, {**self._frozen, **weights}, ("rollout", recent, obs, action))
        error = self.channels.subtract(mean, outcome) / self._frozen["model.change_std"]
        return F.huber_loss(error, torch.zeros_like(error), delta=HUBER_DELTA)

    def _apply_gradients(
        self,
        memory: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        slopes: Mapping[str, Tensor],
        number: int,
    ) -> dict[str, Tensor]:
        c, after = self.learning, dict[str, Tensor]()
        count = (number + 1) // c.steps_per_update
        for name in self._learned:
            step = slopes[name]
            if c.optimizer == "adam":
                first = torch.lerp(step, memory[FIRST + name], c.first_moment)
                second = torch.lerp(step.square(), memory[SECOND + name], c.second_moment)
                after |= {FIRST + name: first, SECOND + name: second}
                scale = (second / (1 - c.second_moment**count)).sqrt_().add_(1e-8)
                step = first / (1 - c.first_moment**count) / scale
            value = own[name] - c.learning_rate * step
            after[WEIGHT + name] = torch.lerp(value, self._frozen[name], c.decay) if c.decay else value
        return after


class _ModelCall(nn.Module):
    """Methods of a world model as one module, to call them with other weights."""

    def __init__(self, model: WorldModel):
        super().__init__()
        self.model = model

    def forward(self, method: str, recent: Tensor, *args: Tensor) -> Any:
        """Call a method for one robot.

        Args:
            recent: `R A`, or `N R A` for `rollout`.
        """
        model = self.model
        rows = recent if recent.ndim == 3 else recent[None]
        state = replace(model.initial_state(initial_action=rows[:, -1]), recent=rows)
        if method == "observe":
            return model.observe(state, args[0][None])[0]
        if method == "imagine":
            mean, log_variance = model.imagine(state, args[0][None], args[1][None])
            return mean[0], log_variance[0]
        obs, action = args
        mean, _ = model.imagine(state, model.observe(state, obs), action[:, None])
        return mean[:, 0]
