"""Online learner: a network without a memory whose robots go on learning by a rule that is not part of it."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.errors import ConfigError
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.model.config import ModelConfig
from wm_robot.model.observed_channels import ObservedChannels
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step


class OnlineLearner(ABC):
    """Network without a memory, and a rule by which each robot learns; `WorldModel` in what evaluation uses of it."""

    uses_privileged_state = False

    def __init__(self, model: WorldModel):
        """Args:
        model: Trained network without a memory.
        """
        if model.config.memory != "null":
            raise ConfigError(
                f"the memory is '{model.config.memory}'; a network that learns by another rule has none"
            )
        self.model = model

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def channels(self) -> ObservedChannels:
        return self.model.channels

    @abstractmethod
    def initial_state(
        self, *, initial_action: Float[Tensor, "B A"], truth: Tensor | None = None
    ) -> LifetimeState[Tensor]:
        """See `WorldModel.initial_state`."""

    @abstractmethod
    def update(
        self, state: LifetimeState[Tensor], step: Step[Tensor]
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """Predict a step, then learn from it."""

    @abstractmethod
    def observe(self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"]) -> Float[Tensor, "B Z"]:
        """See `WorldModel.observe`."""

    @abstractmethod
    def imagine(
        self, state: LifetimeState[Tensor], z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]
    ) -> Prediction[Tensor]:
        """See `WorldModel.imagine`."""

    def scan(
        self,
        state: LifetimeState[Tensor],
        obs: Float[Tensor, "B Tplus1 O"],
        action: Float[Tensor, "B T A"],
        valid: Float[Tensor, "B T"],
        truth: Tensor | None = None,
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """Predict steps in sequence, and learn after each; all are valid."""
        found = []
        for t in range(action.shape[1]):
            step = Step(obs[:, t], action[:, t], obs[:, t + 1], valid[:, t])
            predicted, state = self.update(state, step)
            found.append(predicted)
        return Prediction(*(torch.stack(parts, 1) for parts in zip(*found, strict=True))), state
