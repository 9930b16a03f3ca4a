"""Optimistic model: tests whether the alarm of `wm_robot.agent.plan_monitor` detects over-optimistic plans."""

from typing import Any

import numpy as np
from torch import Tensor

from wm_robot.agent.batch_agent import BatchAgent
from wm_robot.agent.plan_monitor import PlanMonitor
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.model.world_model import WorldModel


class OptimisticModel:
    """Model that predicts perfect servos until `stop`: every joint is predicted at its target.

    It learns from transitions like the wrapped model; only imagined rollouts are changed.
    """

    def __init__(self, model: WorldModel):
        self._model, self._flatters = model, True

    def stop(self) -> None:
        """Return to the predictions of the wrapped model."""
        self._flatters = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def imagine(self, state: LifetimeState[Tensor], z: Tensor, actions: Tensor) -> Prediction[Tensor]:
        expected = self._model.imagine(state, z, actions)
        if not self._flatters:
            return expected
        mean = expected.mean.clone()
        mean[..., self._model.servo_obs] = actions[..., self._model.servo_action]
        return Prediction(mean, expected.log_variance)

    def predict(self, state: LifetimeState[Tensor], obs: Tensor, action: Tensor) -> Prediction[Tensor]:
        mean, log_variance = self.imagine(state, self._model.observe(state, obs), action[:, None, None])
        return Prediction(mean[:, 0, 0], log_variance[:, 0, 0])


class MonitoredAgents:
    """Batch of agents that records the alarms of the plan monitor."""

    def __init__(self, agents: BatchAgent, monitor: PlanMonitor, *, frozen: bool = False):
        """Args:
        monitor: Plan monitor of the agents.
        frozen: Disable learning.
        """
        self._agents, self._watch, self._frozen = agents, monitor, frozen
        self.alarms: list[np.ndarray] = []
        """Alarms after each step, `B`."""

    def begin(self, last_action: np.ndarray, truth: np.ndarray | None = None) -> None:
        self._agents.begin(last_action, truth)
        self.alarms.clear()

    def act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return self._agents.act(obs, goal)

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, truth: np.ndarray | None = None
    ) -> None:
        valid = np.full(len(obs), 0.0 if self._frozen else 1.0, np.float32)
        self._agents.observe(obs, applied, next_obs, valid=valid, truth=truth)
        self.alarms.append(self._watch.is_alarmed.copy())
