"""Model predictive path integral control over a score that somebody else imagines."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.errors import ConfigError

Score = Callable[[Tensor], Tensor]
"""Plans `B N H A` → how good each is, `B N`."""

Improve = Callable[[Tensor, Tensor, Tensor], Tensor]
"""One iteration of the search: mean plan `B H A`, noise `B N H A` and action in force `B A` → a better mean."""


@dataclass(frozen=True, kw_only=True)
class MppiConfig:
    """Size and temper of the search."""

    samples: int = 64
    """Plans imagined in each iteration."""
    horizon: int = 6
    """Steps that each looks ahead: a little beyond the delay and lag of the servos. A longer plan has more numbers to
    search, and takes longer."""
    iterations: int = 3
    elites: int = 8
    """Best plans that the next mean is made of; all of them where there are fewer."""
    temperature: float = 0.5
    """Weights fall by e for every `temperature` deviations of the elites' scores."""
    noise: float = 0.12
    """Largest deviation of the search, as a fraction of each action's range."""
    finest: float = 0.03
    """Smallest deviation, as a fraction of `noise`; each plan draws its own between the two."""
    knots: int = 2
    """Points between which the noise runs straight: plans are smooth, and there is less to search."""
    control_cost: float = 0.05
    """What an action at an end of its range costs a step, in the unit of the score; half-way it is a quarter. Joints
    that a task leaves free otherwise drift into corners from which no short plan leads out."""
    risk: float = 0.0
    """Deviations of a plan's score, over what the life may as well have learned, that count against it. It asks for
    a model several times, so torch plans and no graph does."""

    def __post_init__(self) -> None:
        for name in ("samples", "horizon", "iterations", "elites", "knots"):
            if getattr(self, name) < 1:
                raise ConfigError(f"planner.{name} is {getattr(self, name)}; it must be at least 1")
        if not self.risk >= 0:
            raise ConfigError(f"planner.risk is {self.risk}; it must be at least 0")


class Mppi:
    """Plans for `B` robots at once, each warm-started from its plan of the step before.

    Source: Williams et al. (2017), arXiv:1509.01149. Differs: elites as in the cross-entropy method, and every
    plan draws its own scale of noise, so that one iteration searches coarsely and finely.
    """

    def __init__(
        self, config: MppiConfig, *, low: np.ndarray, high: np.ndarray, step: np.ndarray, seed: int = 0
    ):
        """Args:
        low: Smallest action, `A`.
        high: Largest action.
        step: Largest change from one step to the next.
        """
        self.config = config
        self.low, self.high, self.step = (torch.as_tensor(x, dtype=torch.float32) for x in (low, high, step))
        self.generator = torch.Generator().manual_seed(seed)
        self._blend = _knot_weights(config.horizon, min(config.knots, config.horizon))
        self._mean: Tensor | None = None
        self._prepared = False

    def reset(self) -> None:
        """Forget the plan of the step before."""
        self._mean, self._prepared = None, False

    @torch.inference_mode()
    def plan(self, improve: Improve, hold: Float[Tensor, "B A"]) -> Float[Tensor, "B H A"]:
        """The plan to follow; its first action is the one to take.

        Args:
            improve: `partial(planner.improve, score)`, or the same iteration from somewhere faster.
            hold: Action in force, from which the rate limit counts.

        Returns:
            NaN for a robot of whose plans none has a finite score; its next search starts anew.
        """
        if self._prepared and self._mean is not None and len(self._mean) == len(hold):
            mean = self._search(improve, self._mean, hold, 1)
        else:
            mean = self._search(improve, self._shifted(hold), hold, self.config.iterations)
        # The weights of the elites add up to 1 but for the last digit.
        mean = mean.clamp(self.low, self.high)
        self._keep(mean, hold, prepared=False)
        return mean

    @torch.inference_mode()
    def prepare(self, improve: Improve, hold: Float[Tensor, "B A"]) -> None:
        """All iterations but the last, from where the robot is expected to be at its next step.

        It leaves one iteration between the next observation and its action. Source: the preparation and feedback
        phases of Diehl et al. (2005), SIAM J. Control Optim. 43(5). Without it `plan` does all of them.

        Args:
            improve: As for `plan`, at the moment that is expected.
            hold: The action that will be in force then.
        """
        if self.config.iterations > 1:
            mean = self._search(improve, self._shifted(hold), hold, self.config.iterations - 1)
            self._keep(mean, hold, prepared=True)

    def _search(self, improve: Improve, mean: Tensor, hold: Tensor, iterations: int) -> Tensor:
        for _ in range(iterations):
            mean = improve(mean, self._noise(len(hold)), hold)
        return mean

    def _shifted(self, hold: Float[Tensor, "B A"]) -> Float[Tensor, "B H A"]:
        """The plan of the step before, one step on; at the beginning, to stay."""
        if self._mean is None or len(self._mean) != len(hold):
            return hold[:, None].expand(-1, self.config.horizon, -1)
        return torch.cat([self._mean[:, 1:], self._mean[:, -1:]], 1)

    def _keep(self, mean: Tensor, hold: Tensor, *, prepared: bool) -> None:
        finite = mean.isfinite().flatten(1).all(1)[:, None, None]
        self._mean, self._prepared = torch.where(finite, mean, hold[:, None]), prepared

    def improve(
        self,
        score: Score,
        mean: Float[Tensor, "B H A"],
        noise: Float[Tensor, "B N H A"],
        hold: Float[Tensor, "B A"],
    ) -> Float[Tensor, "B H A"]:
        """One iteration. Pure, so that it can be exported.

        Args:
            score: Called with `B N H A`; row 0 of `N` is the mean itself.

        Returns:
            Mean of the elites. Range and rate are convex, so it keeps them as they do.
        """
        plans = self._limit(mean[:, None] + noise, hold)
        return self._average(plans, score(plans) - self._control_cost(plans))

    def _noise(self, batch: int) -> Float[Tensor, "B N H A"]:
        c = self.config
        draw = torch.randn(batch, c.samples, self._blend.shape[1], len(self.low), generator=self.generator)
        fineness = torch.rand(batch, c.samples, 1, 1, generator=self.generator)
        scale = c.noise * (self.high - self.low) * c.finest**fineness
        noise = (self._blend @ draw) * scale
        noise[:, 0] = 0.0
        return noise

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


def _knot_weights(horizon: int, knots: int) -> Float[Tensor, "H K"]:
    """Straight lines between knots, scaled so that every step's noise has the same deviation."""
    position = torch.linspace(0, knots - 1, horizon)
    weight = (1 - (position[:, None] - torch.arange(knots)).abs()).clamp_min(0)
    return weight / weight.square().sum(1, keepdim=True).sqrt()
