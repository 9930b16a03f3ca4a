"""MPPI iteration in torch: used by experiments and exported to ONNX."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.planning.mppi import Iteration, MppiConfig, compute_knot_weights, compute_largest_step

FINITE_DIFFERENCE = 0.25
"""Change of a plan for the finite differences, in standard deviations of the noise."""
REFINE_SHRINK = 0.65
"""Noise scale of a round, relative to the previous round."""


@runtime_checkable
class Objective(Protocol):
    """Objective of the planner in two parts; the first one takes most of the time."""

    def predict_features(self, plans: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N H F"]:
        """Predict the features of the plans that the objective needs."""

    def evaluate(
        self, features: Float[Tensor, "B N H F"], plans: Float[Tensor, "B N H A"]
    ) -> Float[Tensor, "B N"]:
        """Return the value of plans from their predicted features."""


class MppiIteration:
    """MPPI iteration: replaces a mean plan by the mean of the best plans around it. Pure.

    The best plans are searched in rounds. A few plans are imagined, and the mean plan with each of its knots changed.
    For all other plans the prediction is linear in the plan, with slopes from those rollouts. Source of the slopes:
    the linearised dynamics of Li and Todorov (2004), ICINCO 1; here along the knots, by finite differences.
    """

    def __init__(self, config: MppiConfig, *, low: np.ndarray, high: np.ndarray, max_step: np.ndarray):
        """Args:
        low: Smallest action, `A`.
        high: Largest action.
        max_step: Largest change from one step to the next.
        """
        self.config = config
        max_step = compute_largest_step(max_step, low=low, high=high)
        self.low, self.high, self.max_step = (
            torch.as_tensor(x, dtype=torch.float32) for x in (low, high, max_step)
        )
        weight = (config.control_cost / len(self.low)) ** 0.5 / ((self.high - self.low) / 2)
        self._cost_weight = weight.repeat(config.horizon)
        self._cost_center = ((self.high + self.low) / 2 * weight).repeat(config.horizon)
        """Center of the range in units in which the square of a plan is its control cost, `H·A`."""
        weights = torch.from_numpy(compute_knot_weights(config.horizon, config.num_knots))
        change = torch.diag(FINITE_DIFFERENCE * config.noise_std * (self.high - self.low))
        self._knot_changes = torch.einsum("hk,ab->kahb", weights, change).flatten(0, 1)
        """Finite change of each knot of each action, `D H A`."""
        self._projection = torch.linalg.pinv(self._knot_changes.flatten(1))
        """Projection of a plan on these changes, `H·A D`."""

    def bind_objective(self, objective: Objective) -> Iteration:
        """Bind an objective, and return the iteration on arrays that `Mppi.plan` takes."""

        @torch.inference_mode()
        def iterate(mean: np.ndarray, noise: np.ndarray, last_action: np.ndarray) -> np.ndarray:
            return self(objective, *map(torch.from_numpy, (mean, noise, last_action))).numpy()

        return iterate

    def __call__(
        self,
        objective: Objective,
        mean: Float[Tensor, "B H A"],
        noise: Float[Tensor, "B N H A"],
        last_action: Float[Tensor, "B A"],
    ) -> Float[Tensor, "B H A"]:
        """Compute an improved mean plan.

        Args:
            objective: Objective; row 0 of the plans that it imagines is the mean itself.

        Returns:
            Mean of the elites, within the limits of range and rate.
        """
        plans = self._limit_plans(mean[:, None] + noise, last_action)
        if not self.config.refine_iterations:
            return self._elite_mean(
                plans, self.compute_value(objective, objective.predict_features(plans), plans)
            )[:, 0]
        imagined, others = plans[:, : self.config.num_rollouts], plans[:, self.config.num_rollouts :]
        # They need not be feasible, since they are never applied.
        changed = plans[:, :1] + self._knot_changes
        followed, around = objective.predict_features(torch.cat([imagined, changed], 1)).split(
            [imagined.shape[1], len(self._knot_changes)], 1
        )
        foretold = self._linear_prediction(plans[:, :1], followed[:, :1], around)
        if others.shape[1]:
            followed = torch.cat([followed, foretold(others)], 1)
        better = self._elite_mean(plans, self.compute_value(objective, followed, plans))
        refined = better
        for number in range(1, self.config.refine_iterations + 1):
            # With alternating sign, so that each noise sample is used twice.
            near = refined + (-REFINE_SHRINK) ** number * noise
            if self.config.limit_refinements:
                near = self._limit_plans(near, last_action)
            scores = self.compute_value(objective, foretold(near), near)
            refined = self._mean_by_score(near, scores, self._elite_scores(scores))
        whole = _is_finite(refined.sum((1, 2, 3), keepdim=True))
        return torch.where(whole, self._limit_plans(refined, last_action), better)[:, 0]

    def compute_value(
        self, objective: Objective, features: Float[Tensor, "B N H F"], plans: Float[Tensor, "B N H A"]
    ) -> Float[Tensor, "B N"]:
        """Compute the value of plans minus the quadratic control cost of Williams et al. about mid-range."""
        off = plans.flatten(2) * self._cost_weight - self._cost_center
        return objective.evaluate(features, plans) - off.square().sum(-1)

    def _linear_prediction(
        self,
        plan: Float[Tensor, "B 1 H A"],
        features: Float[Tensor, "B 1 H F"],
        changed_features: Float[Tensor, "B D H F"],
    ) -> Callable[[Float[Tensor, "B N H A"]], Float[Tensor, "B N H F"]]:
        """Return a linear prediction of the features in the plan.

        Args:
            features: Features of the plan around which it is linear.
            changed_features: Features of that plan with each of the changes.
        """
        slopes = self._projection @ (changed_features - features).flatten(2)
        start = features.flatten(2) - plan.flatten(2) @ slopes
        return lambda plans: (start + plans.flatten(2) @ slopes).unflatten(2, features.shape[2:])

    def _limit_plans(
        self, plans: Float[Tensor, "B N H A"], last_action: Float[Tensor, "B A"]
    ) -> Float[Tensor, "B N H A"]:
        """Limit plans to range and rate, as the robot would apply them."""
        plans = plans.clamp(self.low, self.high)
        last, limited = last_action[:, None, None], []
        for now in plans.split(1, 2):
            last = torch.clamp(now, last - self.max_step, last + self.max_step)
            limited.append(last)
        return torch.cat(limited, 2)

    def _elite_mean(
        self, plans: Float[Tensor, "B N H A"], scores: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B 1 H A"]:
        """Compute the mean of the elites; plans without a finite score have no weight. NaN if no score is finite."""
        scores = torch.where(_is_finite(scores), scores, -torch.inf)
        best = self._elite_scores(scores)
        return self._mean_by_score(plans, scores, torch.where(best > -torch.inf, best, best[:, :1]))

    def _elite_scores(self, scores: Float[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        """Return the scores of the elites."""
        return scores.topk(min(self.config.num_elites, self.config.num_samples), dim=1)[0]

    def _mean_by_score(
        self, plans: Float[Tensor, "B N H A"], scores: Float[Tensor, "B N"], best: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B 1 H A"]:
        """Compute the mean of the elites, weighted by their scores; NaN if one score is not finite."""
        middle = best.mean(1, keepdim=True)
        deviation = torch.linalg.vector_norm(best - middle, dim=1, keepdim=True)
        # A bound, not an addition: the exporter drops `+ 1e-9`, and elites with equal scores would give 0 / 0.
        unit = (deviation * (self.config.temperature / best.shape[1] ** 0.5)).clamp_min(1e-9)
        above = torch.where(scores >= best.amin(1, keepdim=True), (scores - middle) / unit, -torch.inf)
        weight = torch.softmax(above, 1)
        return (weight[:, None] @ plans.flatten(2)).unflatten(2, plans.shape[2:])


def _is_finite(x: Tensor) -> Tensor:
    """Return whether numbers are finite: two ONNX operations, where `isfinite` takes five."""
    return x - x == 0
