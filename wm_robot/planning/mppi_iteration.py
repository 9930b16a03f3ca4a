"""MPPI iteration in torch: used by experiments and exported to ONNX."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.planning.mppi import Improve, MppiConfig, knot_weights, largest_step

SLOPE = 0.25
"""Change of a plan for the finite differences, in standard deviations of the noise."""
NARROWER = 0.65
"""Noise scale of a round, relative to the previous round."""


@runtime_checkable
class Score(Protocol):
    """Objective of the planner in two parts; the first one takes most of the time."""

    def imagine(self, plans: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N H F"]:
        """Predict the features of the plans that the objective needs."""

    def judge(
        self, followed: Float[Tensor, "B N H F"], plans: Float[Tensor, "B N H A"]
    ) -> Float[Tensor, "B N"]:
        """Return the value of plans from their predicted features."""


class Improvement:
    """MPPI iteration: replaces a mean plan by the mean of the best plans around it. Pure.

    The best plans are searched in rounds. A few plans are imagined, and the mean plan with each of its knots changed.
    For all other plans the prediction is linear in the plan, with slopes from those rollouts. Source of the slopes:
    the linearised dynamics of Li and Todorov (2004), ICINCO 1; here along the knots, by finite differences.
    """

    def __init__(self, config: MppiConfig, *, low: np.ndarray, high: np.ndarray, step: np.ndarray):
        """Args:
        low: Smallest action, `A`.
        high: Largest action.
        step: Largest change from one step to the next.
        """
        self.config = config
        step = largest_step(step, low=low, high=high)
        self.low, self.high, self.step = (torch.as_tensor(x, dtype=torch.float32) for x in (low, high, step))
        weight = (config.control_cost / len(self.low)) ** 0.5 / ((self.high - self.low) / 2)
        self._weight = weight.repeat(config.horizon)
        self._center = ((self.high + self.low) / 2 * weight).repeat(config.horizon)
        """Center of the range in units in which the square of a plan is its control cost, `H·A`."""
        weights = torch.from_numpy(knot_weights(config.horizon, config.knots))
        change = torch.diag(SLOPE * config.noise * (self.high - self.low))
        self._changes = torch.einsum("hk,ab->kahb", weights, change).flatten(0, 1)
        """Finite change of each knot of each action, `D H A`."""
        self._parts = torch.linalg.pinv(self._changes.flatten(1))
        """Projection of a plan on these changes, `H·A D`."""

    def of(self, score: Score) -> Improve:
        """Bind an objective, and return the iteration on arrays that `Mppi.plan` takes."""

        @torch.inference_mode()
        def improve(mean: np.ndarray, noise: np.ndarray, hold: np.ndarray) -> np.ndarray:
            return self(score, *map(torch.from_numpy, (mean, noise, hold))).numpy()

        return improve

    def __call__(
        self,
        score: Score,
        mean: Float[Tensor, "B H A"],
        noise: Float[Tensor, "B N H A"],
        hold: Float[Tensor, "B A"],
    ) -> Float[Tensor, "B H A"]:
        """Compute an improved mean plan.

        Args:
            score: Objective; row 0 of the plans that it imagines is the mean itself.

        Returns:
            Mean of the elites, within the limits of range and rate.
        """
        plans = self._limit(mean[:, None] + noise, hold)
        if not self.config.rounds:
            return self._first(plans, self.value(score, score.imagine(plans), plans))[:, 0]
        imagined, others = plans[:, : self.config.imagined], plans[:, self.config.imagined :]
        # They need not be feasible, since they are never applied.
        changed = plans[:, :1] + self._changes
        followed, around = score.imagine(torch.cat([imagined, changed], 1)).split(
            [imagined.shape[1], len(self._changes)], 1
        )
        foretold = self._foretold(plans[:, :1], followed[:, :1], around)
        if others.shape[1]:
            followed = torch.cat([followed, foretold(others)], 1)
        better = self._first(plans, self.value(score, followed, plans))
        refined = better
        for number in range(1, self.config.rounds + 1):
            # With alternating sign, so that each noise sample is used twice.
            near = refined + (-NARROWER) ** number * noise
            scores = self.value(score, foretold(near), near)
            refined = self._average(near, scores, self._best(scores))
        whole = _finite(refined.sum((1, 2, 3), keepdim=True))
        return torch.where(whole, self._limit(refined, hold), better)[:, 0]

    def value(
        self, score: Score, followed: Float[Tensor, "B N H F"], plans: Float[Tensor, "B N H A"]
    ) -> Float[Tensor, "B N"]:
        """Compute the value of plans minus the quadratic control cost of Williams et al. about mid-range."""
        off = plans.flatten(2) * self._weight - self._center
        return score.judge(followed, plans) - off.square().sum(-1)

    def _foretold(
        self,
        plan: Float[Tensor, "B 1 H A"],
        followed: Float[Tensor, "B 1 H F"],
        around: Float[Tensor, "B D H F"],
    ) -> Callable[[Float[Tensor, "B N H A"]], Float[Tensor, "B N H F"]]:
        """Return a linear prediction of the features in the plan.

        Args:
            followed: Features of the plan around which it is linear.
            around: Features of that plan with each of the changes.
        """
        slopes = self._parts @ (around - followed).flatten(2)
        start = followed.flatten(2) - plan.flatten(2) @ slopes
        return lambda plans: (start + plans.flatten(2) @ slopes).unflatten(2, followed.shape[2:])

    def _limit(self, plans: Float[Tensor, "B N H A"], hold: Float[Tensor, "B A"]) -> Float[Tensor, "B N H A"]:
        """Limit plans to range and rate, as the robot would apply them."""
        plans = plans.clamp(self.low, self.high)
        last, limited = hold[:, None, None], []
        for now in plans.split(1, 2):
            last = torch.clamp(now, last - self.step, last + self.step)
            limited.append(last)
        return torch.cat(limited, 2)

    def _first(
        self, plans: Float[Tensor, "B N H A"], scores: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B 1 H A"]:
        """Compute the mean of the elites; plans without a finite score have no weight. NaN if no score is finite."""
        scores = torch.where(_finite(scores), scores, -torch.inf)
        best = self._best(scores)
        return self._average(plans, scores, torch.where(best > -torch.inf, best, best[:, :1]))

    def _best(self, scores: Float[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        """Return the scores of the elites."""
        return scores.topk(min(self.config.elites, self.config.samples), dim=1)[0]

    def _average(
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


def _finite(x: Tensor) -> Tensor:
    """Return whether numbers are finite: two ONNX operations, where `isfinite` takes five."""
    return x - x == 0
