"""One iteration of the search in torch: as experiments run it, and as it is exported."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.planning.mppi import Improve, MppiConfig

Score = Callable[[Tensor], Tensor]
"""Plans `B N H A` → how good each is, `B N`."""


class Improvement:
    """Takes a mean plan to the mean of the best that are around it. Pure."""

    def __init__(self, config: MppiConfig, *, low: np.ndarray, high: np.ndarray, step: np.ndarray):
        """Args:
        low: Smallest action, `A`.
        high: Largest action.
        step: Largest change from one step to the next.
        """
        self.config = config
        self.low, self.high, self.step = (torch.as_tensor(x, dtype=torch.float32) for x in (low, high, step))

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
            score: Called with `B N H A`; row 0 of `N` is the mean itself.

        Returns:
            Mean of the elites. Range and rate are convex, so it keeps them as they do.
        """
        plans = self._limit(mean[:, None] + noise, hold)
        return self._average(plans, score(plans) - self._control_cost(plans))

    def _limit(self, plans: Float[Tensor, "B N H A"], hold: Float[Tensor, "B A"]) -> Float[Tensor, "B N H A"]:
        """The plans as the robot would carry them out: within range, no faster than allowed."""
        plans = plans.clamp(self.low, self.high)
        last, limited = hold[:, None], []
        for k in range(plans.shape[2]):
            last = torch.clamp(plans[:, :, k], last - self.step, last + self.step)
            limited.append(last)
        return torch.stack(limited, 2)

    def _control_cost(self, plans: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N"]:
        """The quadratic cost of control of Williams et al., about the middle of the range."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return self.config.control_cost * ((plans - middle) / half).square().mean(-1).sum(-1)

    def _average(
        self, plans: Float[Tensor, "B N H A"], scores: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B H A"]:
        best, index = torch.where(scores.isfinite(), scores, -torch.inf).topk(
            min(self.config.elites, self.config.samples), dim=1
        )
        # Fewer finite scores than elites: the others weigh nothing. None at all: 0 / 0, which nobody carries out.
        good = best.isfinite()
        below = torch.where(good, best - best[:, :1], 0.0)
        count = good.sum(1, keepdim=True)
        mean = below.sum(1, keepdim=True) / count
        spread = (torch.where(good, below - mean, 0.0).square().sum(1, keepdim=True) / count).sqrt()
        # A bound, not an addition: the exporter takes `+ 1e-9` for nothing, and elites that tie would be 0 / 0.
        unit = (self.config.temperature * spread).clamp_min(1e-9)
        weight = torch.softmax(torch.where(good, below / unit, -torch.inf), 1)
        elites = plans.gather(1, index[..., None, None].expand(-1, -1, *plans.shape[2:]))
        return (weight[..., None, None] * elites).sum(1)
