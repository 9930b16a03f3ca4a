"""Competence: online estimate of how well a lifetime state predicts its own future."""

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.world_model import WorldModel


class CompetenceEstimator:
    """Competence estimator: compares open-loop predictions of a robot with the steps that follow.

    Competence is 1 - prediction error / error of predicting no change, over the last scores: 0 for no skill, 1 for
    exact predictions. Predictions are made before the steps are observed, as in the training loss.
    """

    def __init__(self, model: WorldModel, *, horizon: int = 10, interval: int = 4, num_scores: int = 32):
        """Args:
        horizon: Predicted steps.
        interval: Steps between two scores.
        num_scores: Number of scores in the mean.
        """
        self.model, self.horizon, self.interval = model, horizon, interval
        self._past_states: deque[tuple[LifetimeState[Tensor], Tensor]] = deque(maxlen=horizon)
        self._past_actions: deque[Tensor] = deque(maxlen=horizon)
        self._scores: deque[tuple[float, float]] = deque(maxlen=num_scores)
        self._num_steps = 0

    def clear_scores(self) -> None:
        """Drop all scores, at the start of a stage."""
        self._past_states.clear()
        self._past_actions.clear()
        self._scores.clear()

    @torch.inference_mode()
    def add_step(
        self, state: LifetimeState[Tensor], obs: Float[Tensor, "1 O"], action: Float[Tensor, "1 A"]
    ) -> None:
        """Add one step, before the state is updated with it.

        Args:
            state: State with the recent actions before `obs`.
            action: Action taken at `obs`.
        """
        if len(self._past_states) == self.horizon and self._num_steps % self.interval == 0:
            then, seen = self._past_states[0]
            plan = torch.stack(list(self._past_actions), 1)
            mean, _ = self.model.imagine(then, self.model.observe(then, seen), plan[:, None])
            error, still = (
                self.model.channels.subtract(x, obs) / self.model.change_std for x in (mean[:, 0, -1], seen)
            )
            self._scores.append((float(error.square().mean()), float(still.square().mean())))
        self._past_states.append((state, obs))
        self._past_actions.append(action)
        self._num_steps += 1

    @property
    def competence(self) -> float | None:
        """Competence of the last scores; None while there are too few."""
        if len(self._scores) < (self._scores.maxlen or 0):
            return None
        error, still = (sum(marks) for marks in zip(*self._scores, strict=True))
        return 1 - error / still if still > 0 else 0.0
