"""Model predictive path integral control: the search, whose iterations somebody else computes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from wm_robot.errors import check_at_least

WORD = 2**64 - 1
"""Lowest 64 bits of a number."""
Improve = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""One iteration of the search: mean plan `B H A`, noise `B N H A` and action in force `B A` → a better mean."""


@dataclass(frozen=True, kw_only=True)
class MppiConfig:
    """Size and temper of the search."""

    samples: int = 64
    """Plans that each iteration and each of its rounds chooses from."""
    imagined: int = 8
    """How many of them are imagined. Of the others is taken, as in the rounds, that what follows is linear in
    the plan; without rounds all are imagined."""
    horizon: int = 6
    """Steps that each looks ahead: a little beyond the delay and lag of the servos. A longer plan has more numbers to
    search, and takes longer."""
    iterations: int = 1
    rounds: int = 6
    """Searches of an iteration after its first, each narrower than the one before: they take what follows for linear
    in the plan. 0: none."""
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

    def __post_init__(self) -> None:
        check_at_least(
            1, self, "samples", "imagined", "horizon", "iterations", "elites", "knots", part="planner"
        )
        check_at_least(0, self, "rounds", part="planner")


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
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        self.step = largest_step(step, low=self.low, high=self.high)
        self.generator = np.random.Generator(np.random.PCG64(seed))
        weights = knot_weights(config.horizon, config.knots)
        self._blend = np.kron(weights, np.eye(len(self.low), dtype=np.float32)).T
        """What each knot of each action adds to a plan, `K·A H·A`: one product for all plans."""
        self._mean: np.ndarray | None = None
        self._carries_over = False
        """Whether the next plan is the last one, a step on."""
        self.searched = True
        """Whether the last plan was: not where it was carried over."""

    def reset(self) -> None:
        """Forget the plan of the step before."""
        self._mean, self._carries_over, self.searched = None, False, True

    @property
    def random(self) -> Int[np.ndarray, "6"]:
        """Where its noise has got to; set it to go on from there. The plan itself is of a moment and is not kept."""
        at: Any = self.generator.bit_generator.state
        wide = (at["state"][name] >> shift & WORD for name in ("state", "inc") for shift in (0, 64))
        return np.array([*wide, at["has_uint32"], at["uinteger"]], np.uint64).view(np.int64)

    @random.setter
    def random(self, words: Int[np.ndarray, "6"]) -> None:
        low, high, low_step, high_step, half, rest = (int(word) for word in words.view(np.uint64))
        self.generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": high << 64 | low, "inc": high_step << 64 | low_step},
            "has_uint32": half,
            "uinteger": rest,
        }

    def plan(self, improve: Improve, hold: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B H A"]:
        """The plan to follow; its first action is the one to take.

        Args:
            improve: An `Improvement` of a score, or the same as a graph.
            hold: Action in force, from which the rate limit counts.

        Returns:
            NaN for a robot of whose plans none has a finite score; its next search starts anew.
        """
        mean, self.searched = self._shifted(hold), not self._carries_over
        if self.searched:
            for _ in range(self.config.iterations):
                mean = improve(mean, self._noise(len(hold)), hold)
        else:
            mean = self._limit(mean, hold)
        # The weights of the elites add up to 1 but for the last digit.
        mean = np.minimum(np.maximum(mean, self.low), self.high)
        finite = np.isfinite(mean).all((1, 2))[:, None, None]
        self._mean, self._carries_over = np.where(finite, mean, hold[:, None]), False
        return mean

    def carry_over(self) -> None:
        """Let the next plan be this one, a step on, and not search for it: for when time is short."""
        self._carries_over = True

    def _limit(self, mean: np.ndarray, hold: np.ndarray) -> Float[np.ndarray, "B H A"]:
        """A plan as the robot carries it out from another action than was expected: no faster than allowed."""
        steps, last = [], hold
        for step in mean.swapaxes(0, 1):
            last = np.clip(step, last - self.step, last + self.step)
            steps.append(last)
        return np.stack(steps, 1)

    def _shifted(self, hold: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B H A"]:
        """The plan of the step before, one step on; at the beginning, to stay."""
        if self._mean is None or len(self._mean) != len(hold):
            return np.repeat(hold[:, None], self.config.horizon, 1)
        return np.concatenate([self._mean[:, 1:], self._mean[:, -1:]], 1)

    def _noise(self, batch: int) -> Float[np.ndarray, "B N H A"]:
        c = self.config
        draw = self.generator.standard_normal((batch, c.samples, len(self._blend)), np.float32)
        fineness = self.generator.random((batch, c.samples, 1, 1), np.float32)
        scale = c.noise * (self.high - self.low) * np.float32(c.finest) ** fineness
        noise = (draw @ self._blend).reshape(batch, c.samples, c.horizon, -1) * scale
        noise[:, 0] = 0.0
        return noise


def largest_step(step: np.ndarray, *, low: np.ndarray, high: np.ndarray) -> Float[np.ndarray, "A"]:
    """The largest change of an action that stays a robot's own, `step`, when the sum is rounded: a plan at its limits
    is cut by no gate."""
    rounding = np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high))
    return np.asarray(step - rounding, np.float32)


def knot_weights(horizon: int, knots: int) -> Float[np.ndarray, "H K"]:
    """Straight lines between knots, scaled so that every step's noise has the same deviation.

    Args:
        knots: As many as there are steps where it is more.
    """
    knots = min(knots, horizon)
    position = np.linspace(0, knots - 1, horizon)
    weight = np.maximum(1 - np.abs(position[:, None] - np.arange(knots)), 0)
    return (weight / np.sqrt((weight**2).sum(1, keepdims=True))).astype(np.float32)
