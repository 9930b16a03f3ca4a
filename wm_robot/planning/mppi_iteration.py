"""One iteration of the search in torch: as experiments run it, and as it is exported."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.planning.mppi import Improve, MppiConfig, knot_weights, largest_step

SLOPE = 0.25
"""How far a plan is changed to see what follows from it, in deviations of the search."""
NARROWER = 0.65
"""Width of a round's search, in that of the round before."""


@runtime_checkable
class Score(Protocol):
    """How good plans are, in two parts, of which the first is the one that takes long."""

    def imagine(self, plans: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N H F"]:
        """What of all that follows from plans counts."""

    def judge(
        self, followed: Float[Tensor, "B N H F"], plans: Float[Tensor, "B N H A"]
    ) -> Float[Tensor, "B N"]:
        """How good plans are of which that follows."""


class Improvement:
    """Takes a mean plan to the mean of the best that are around it. Pure.

    What the best of them are is found in rounds. A few plans are imagined, and the mean with each of its knots
    changed; of all others is taken that what follows is linear in them. Imagination says where it leads, and what
    the slopes are; they say how far to go. Source of the slopes: the linearised dynamics of Li and Todorov (2004),
    ICINCO 1; here along the knots, by differences.
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
        """Units of a plan in which its square is the cost of control, and the middle of the range in them, `H·A`."""
        weights = torch.from_numpy(knot_weights(config.horizon, config.knots))
        change = torch.diag(SLOPE * config.noise * (self.high - self.low))
        self._changes = torch.einsum("hk,ab->kahb", weights, change).flatten(0, 1)
        """Of a knot of one action each, `D H A`."""
        self._parts = torch.linalg.pinv(self._changes.flatten(1))
        """How much of each of them is in a plan, `H·A D`."""

    def of(self, score: Score) -> Improve:
        """What `Mppi.plan` asks for, on arrays."""

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
        """A better mean.

        Args:
            score: Row 0 of what it is asked to imagine is the mean itself.

        Returns:
            Mean of the elites, within range and rate.
        """
        plans = self._limit(mean[:, None] + noise, hold)
        if not self.config.rounds:
            return self._first(plans, self.value(score, score.imagine(plans), plans))[:, 0]
        imagined, others = plans[:, : self.config.imagined], plans[:, self.config.imagined :]
        # They need not be feasible, since nobody follows them.
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
            # To and fro, so that what was drawn serves twice.
            near = refined + (-NARROWER) ** number * noise
            scores = self.value(score, foretold(near), near)
            refined = self._average(near, scores, self._best(scores))
        whole = _finite(refined.sum((1, 2, 3), keepdim=True))
        return torch.where(whole, self._limit(refined, hold), better)[:, 0]

    def value(
        self, score: Score, followed: Float[Tensor, "B N H F"], plans: Float[Tensor, "B N H A"]
    ) -> Float[Tensor, "B N"]:
        """How good plans are, less the quadratic cost of control of Williams et al. about the middle of the range."""
        off = plans.flatten(2) * self._weight - self._center
        return score.judge(followed, plans) - off.square().sum(-1)

    def _foretold(
        self,
        plan: Float[Tensor, "B 1 H A"],
        followed: Float[Tensor, "B 1 H F"],
        around: Float[Tensor, "B D H F"],
    ) -> Callable[[Float[Tensor, "B N H A"]], Float[Tensor, "B N H F"]]:
        """What follows from plans where that is linear in them.

        Args:
            followed: From the plan around which it is.
            around: From that plan with each of the changes.
        """
        slopes = self._parts @ (around - followed).flatten(2)
        start = followed.flatten(2) - plan.flatten(2) @ slopes
        return lambda plans: (start + plans.flatten(2) @ slopes).unflatten(2, followed.shape[2:])

    def _limit(self, plans: Float[Tensor, "B N H A"], hold: Float[Tensor, "B A"]) -> Float[Tensor, "B N H A"]:
        """The plans as the robot would carry them out: within range, no faster than allowed."""
        plans = plans.clamp(self.low, self.high)
        last, limited = hold[:, None, None], []
        for now in plans.split(1, 2):
            last = torch.clamp(now, last - self.step, last + self.step)
            limited.append(last)
        return torch.cat(limited, 2)

    def _first(
        self, plans: Float[Tensor, "B N H A"], scores: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B 1 H A"]:
        """The mean of the elites, where what is not finite weighs nothing; NaN where no score is."""
        scores = torch.where(_finite(scores), scores, -torch.inf)
        best = self._best(scores)
        return self._average(plans, scores, torch.where(best > -torch.inf, best, best[:, :1]))

    def _best(self, scores: Float[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        """Scores of the elites."""
        return scores.topk(min(self.config.elites, self.config.samples), dim=1)[0]

    def _average(
        self, plans: Float[Tensor, "B N H A"], scores: Float[Tensor, "B N"], best: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B 1 H A"]:
        """The mean of the elites, by their scores; NaN where one of these is not finite."""
        middle = best.mean(1, keepdim=True)
        deviation = torch.linalg.vector_norm(best - middle, dim=1, keepdim=True)
        # A bound, not an addition: the exporter takes `+ 1e-9` for nothing, and elites that tie would be 0 / 0.
        unit = (deviation * (self.config.temperature / best.shape[1] ** 0.5)).clamp_min(1e-9)
        above = torch.where(scores >= best.amin(1, keepdim=True), (scores - middle) / unit, -torch.inf)
        weight = torch.softmax(above, 1)
        return (weight[:, None] @ plans.flatten(2)).unflatten(2, plans.shape[2:])


def _finite(x: Tensor) -> Tensor:
    """Whether a number is one: two steps of a graph, where `isfinite` is five."""
    return x - x == 0
