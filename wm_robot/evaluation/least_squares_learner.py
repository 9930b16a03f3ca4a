"""Least-squares learners: recursive least squares on a robot's own life, without trained weights or beside them."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.evaluation.online_learner import OnlineLearner
from wm_robot.math.kalman_rule import kalman_update
from wm_robot.memory.film import make_read_state
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState, LowRank, Residual
from wm_robot.model.backend import Prediction
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step


@dataclass(frozen=True, kw_only=True)
class LeastSquaresConfig:
    """Config of recursive least squares."""

    scale: float = 1.0
    """Deviation of the coefficients before the first step, in that of the change that none of them explains."""
    log_decay: float = 0.0
    """Logarithm of the share of the coefficients that is left after a step; 0: nothing is forgotten."""


class LeastSquaresLearner(OnlineLearner):
    """Model with coefficients for each robot, updated by recursive least squares; as `WorldModel` in evaluation.

    All channels share one covariance. Source: Kalman (1960), J. Basic Eng. 82(1), for constant coefficients.
    """

    def __init__(self, model: WorldModel, config: LeastSquaresConfig):
        """Args:
        model: Trained network without a memory.
        """
        super().__init__(model)
        self.learning = config

    def initial_state(
        self, *, initial_action: Float[Tensor, "B A"], truth: Tensor | None = None
    ) -> LifetimeState[Tensor]:
        """See `WorldModel.initial_state`."""
        state, batch = self.model.initial_state(initial_action=initial_action), len(initial_action)
        size = self._count_features()
        born = {
            **state.memory[0],
            "coefficients": initial_action.new_zeros(batch, size, self.config.obs),
            "covariance": torch.eye(size).expand(batch, -1, -1),
        }
        return self._use_coefficients(replace(state, learned=LearnedState((born,), state.residual)))

    def update(
        self, state: LifetimeState[Tensor], step: Step[Tensor]
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """Predict a step, then update the coefficients."""
        mean, log_variance = self.imagine(state, self.observe(state, step.obs), step.action[:, None, None])
        learning, part = self.learning, state.memory[0]
        key = learning.scale * self._compute_features(state, step.obs, step.action)
        error = self.channels.subtract(step.next_obs, mean[:, 0, 0]) / self.model.change_std
        own = (key[:, None] @ part["coefficients"])[:, 0]
        coefficients, covariance = kalman_update(
            (part["coefficients"], part["covariance"]),
            key,
            error + own,
            torch.ones(len(key)),
            torch.full((len(key),), learning.log_decay),
        )
        state = replace(
            state.with_memory(0, coefficients=coefficients, covariance=covariance),
            step=state.step + 1,
            recent=torch.cat([state.recent[:, 1:], step.action[:, None]], 1),
        )
        return Prediction(mean[:, 0, 0], log_variance[:, 0, 0]), self._use_coefficients(state)

    def _use_coefficients(self, state: LifetimeState[Tensor]) -> LifetimeState[Tensor]:
        """Return the state whose predictions use its coefficients."""
        return state

    @abstractmethod
    def _count_features(self) -> int:
        """Count the features."""

    @abstractmethod
    def _compute_features(
        self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"], action: Float[Tensor, "B A"]
    ) -> Float[Tensor, "B F"]:
        """Compute the features of a step."""


class LinearLearner(LeastSquaresLearner):
    """Linear model of the change by observation and commands. At first it knows nothing but the units."""

    def observe(self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"]) -> Float[Tensor, "B Z"]:
        return obs

    def imagine(
        self, state: LifetimeState[Tensor], z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]
    ) -> Prediction[Tensor]:
        weights = self.learning.scale * state.memory[0]["coefficients"]
        obs = z[:, None].expand(-1, actions.shape[1], -1)
        recent, means = state.recent[:, None].expand(-1, actions.shape[1], -1, -1), []
        for action in actions.unbind(2):
            recent = torch.cat([recent, action[:, :, None]], 2)
            obs = obs + (self._join_features(obs, recent) @ weights) * self.model.change_std
            recent = recent[:, :, 1:]
            means.append(obs)
        mean = torch.stack(means, 2)
        return Prediction(mean, torch.zeros_like(mean) + 2 * self.model.change_std.log())

    def _count_features(self) -> int:
        return 1 + self.channels.num_features + (1 + self.config.recent) * self.config.action

    def _compute_features(
        self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"], action: Float[Tensor, "B A"]
    ) -> Float[Tensor, "B F"]:
        return self._join_features(obs, torch.cat([state.recent, action[:, None]], 1))

    def _join_features(
        self, obs: Float[Tensor, "*B O"], commands: Float[Tensor, "*B Rplus1 A"]
    ) -> Float[Tensor, "*B F"]:
        model = self.model
        y = model.channels.expand((obs - model.obs_mean) / model.obs_std)
        asked = (commands - model.action_mean) / model.action_std
        return torch.cat([torch.ones_like(y[..., :1]), y, asked.flatten(-2)], -1)


class LastLayerLearner(LeastSquaresLearner):
    """Trained network whose last layer is corrected by least squares on its own last hidden features."""

    def observe(self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"]) -> Float[Tensor, "B Z"]:
        return self.model.observe(state, obs)

    def imagine(
        self, state: LifetimeState[Tensor], z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]
    ) -> Prediction[Tensor]:
        return self.model.imagine(state, z, actions)

    def _count_features(self) -> int:
        return self.config.width

    def _compute_features(
        self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"], action: Float[Tensor, "B A"]
    ) -> Float[Tensor, "B F"]:
        model = self.model
        _, h, _ = model.enter(state, obs[:, None], torch.cat([state.recent, action[:, None]], 1))
        reader = model.memory_layers[0].open_reader(make_read_state(state, 0))
        features: Tensor = model.output_head[0](model.apply_block(0, h, reader(model.norms[0](h))))
        return features[:, 0]

    def _use_coefficients(self, state: LifetimeState[Tensor]) -> LifetimeState[Tensor]:
        """Return the state with the coefficients as the correction of the last layer, of full rank."""
        assert state.residual is not None, "the state has no residual"
        coefficients = self.learning.scale * state.memory[0]["coefficients"]
        same = torch.eye(self.config.width).expand(len(coefficients), -1, -1)
        first, read = state.residual.first, state.residual.read
        return state.with_residual(Residual(first, LowRank(same, coefficients.mT), read))
