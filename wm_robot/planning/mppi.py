"""Model predictive path integral control (MPPI): the search loop. Its iterations are computed elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from wm_robot.errors import ConfigError, check_at_least

WORD_MASK = 2**64 - 1
"""Mask of the lowest 64 bits of a number."""
Iteration = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""One iteration of the search: mean plan `B H A`, noise `B N H A` and last action `B A` → improved mean plan."""


@dataclass(frozen=True, kw_only=True)
class MppiConfig:
    """Size and noise of the MPPI search."""

    num_samples: int = 64
    """Number of plans in each iteration and in each of its rounds."""
    num_rollouts: int = 2
    """Number of those plans that are imagined. The others, and all plans of the rounds, use a linear prediction
    in the plan; without rounds all plans are imagined."""
    horizon: int = 10
    """Steps of a plan: those over which the model is trained. With six, `so101` stays away from goals three times as
    often; a longer plan has more numbers to search, and takes longer."""
    num_iterations: int = 1
    refine_iterations: int = 6
    """Refinements of an iteration, each with less noise than the one before. They use a linear prediction in the
    plan. 0: none."""
    num_elites: int = 8
    """Number of best plans whose weighted mean is the next mean plan; all plans if there are fewer."""
    temperature: float = 0.5
    """Weights decrease by a factor of e for every `temperature` standard deviations of the elites' scores."""
    noise_std: float = 0.12
    """Largest standard deviation of the noise, as a fraction of each action's range."""
    min_noise_ratio: float = 0.03
    """Smallest standard deviation, as a fraction of `noise_std`; each plan draws its own between the two."""
    num_knots: int = 2
    """Points between which the noise is linear: plans are smooth, and the search has fewer dimensions."""
    limit_refinements: bool = False
    """Limit the plans of the refinements to range and rate. Otherwise their mean alone is limited, which is faster.
    Far from the goal that mean may be a plan that goes back first, and no more than that is left of it."""
    control_cost: float = 0.05
    """Cost per step of an action at an end of its range, in the unit of the score; quadratic, so half-way it is a
    quarter. Without it, joints that a task leaves free drift into corners that no short plan can leave."""

    def __post_init__(self) -> None:
        check_at_least(
            1,
            self,
            "num_samples",
            "num_rollouts",
            "horizon",
            "num_iterations",
            "num_elites",
            "num_knots",
            section="planner",
        )
        check_at_least(0, self, "refine_iterations", section="planner")


class Mppi:
    """MPPI planner for `B` robots at once, each warm-started from its plan of the previous step.

    Source: Williams et al. (2017), arXiv:1509.01149. Differs: elites as in the cross-entropy method, and every
    plan draws its own noise scale, so that one iteration searches on coarse and fine scales.
    """

    def __init__(
        self,
        config: MppiConfig,
        *,
        low: np.ndarray,
        high: np.ndarray,
        max_step: np.ndarray,
        interval: int = 1,
        seed: int = 0,
    ):
        """Args:
        low: Smallest action, `A`.
        high: Largest action.
        max_step: Largest change from one step to the next.
        interval: Steps from one search to the next; between them the plan is the last one, shifted.

        Raises:
            ConfigError: If a plan is not longer than the interval.
        """
        if not 1 <= interval < max(config.horizon, 2):
            raise ConfigError(
                f"the planner searches every {interval} steps, and a plan has {config.horizon}. Set plan_rate of the "
                "robot higher, or a longer horizon"
            )
        self.config, self._interval = config, interval
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        self.max_step = compute_largest_step(max_step, low=self.low, high=self.high)
        self.generator = np.random.Generator(np.random.PCG64(seed))
        weights = compute_knot_weights(config.horizon, config.num_knots)
        self._knot_blend = np.kron(weights, np.eye(len(self.low), dtype=np.float32)).T
        """Contribution of each knot of each action to a plan, `K·A H·A`: one product for all plans."""
        self._mean: np.ndarray | None = None
        self._age = interval
        """Number of steps since the last search, this one included."""
        self.replanned = True
        """Whether the last plan was searched; False where it was reused."""

    def reset(self) -> None:
        """Discard the plan of the previous step."""
        self._mean, self._age, self.replanned = None, self._interval, True

    @property
    def noise_state(self) -> Int[np.ndarray, "6"]:
        """State of the noise generator; set it to continue from there. The plan itself is not stored."""
        at: Any = self.generator.bit_generator.state
        wide = (at["state"][name] >> shift & WORD_MASK for name in ("state", "inc") for shift in (0, 64))
        return np.array([*wide, at["has_uint32"], at["uinteger"]], np.uint64).view(np.int64)

    @noise_state.setter
    def noise_state(self, words: Int[np.ndarray, "6"]) -> None:
        low, high, low_step, high_step, half, rest = (int(word) for word in words.view(np.uint64))
        self.generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": high << 64 | low, "inc": high_step << 64 | low_step},
            "has_uint32": half,
            "uinteger": rest,
        }

    def plan(self, iteration: Iteration, last_action: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B H A"]:
        """Search the next plan; its first action is the one to apply.

        Args:
            iteration: An `MppiIteration` of an objective, or the same as an ONNX model.
            last_action: Last action, from which the rate limit counts.

        Returns:
            Plan of each robot. NaN for a robot without any plan of finite score; its next search starts from the last
            action.
        """
        mean, self.replanned = self._shift_plan(last_action), self._age >= self._interval
        if self.replanned:
            for _ in range(self.config.num_iterations):
                mean = iteration(mean, self._sample_noise(len(last_action)), last_action)
        else:
            mean = self._limit_rate(mean, last_action)
        # The weights of the elites add up to 1 except for the last digit.
        mean = np.minimum(np.maximum(mean, self.low), self.high)
        finite = np.isfinite(mean).all((1, 2))[:, None, None]
        self._mean = np.where(finite, mean, last_action[:, None])
        self._age = 1 if self.replanned else self._age + 1
        return mean

    def reuse_shifted_plan(self) -> None:
        """Reuse this plan, shifted by a step, as the next plan: for a step without time for a search."""
        self._age = min(self._age, self._interval - 1)

    def _limit_rate(self, mean: np.ndarray, last_action: np.ndarray) -> Float[np.ndarray, "B H A"]:
        """Apply the rate limit to a plan that starts from another action than expected."""
        steps, last = [], last_action
        for step in mean.swapaxes(0, 1):
            last = np.clip(step, last - self.max_step, last + self.max_step)
            steps.append(last)
        return np.stack(steps, 1)

    def _shift_plan(self, last_action: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B H A"]:
        """Return the previous plan shifted by one step; without one, a plan that holds the last action."""
        if self._mean is None or len(self._mean) != len(last_action):
            return np.repeat(last_action[:, None], self.config.horizon, 1)
        return np.concatenate([self._mean[:, 1:], self._mean[:, -1:]], 1)

    def _sample_noise(self, batch_size: int) -> Float[np.ndarray, "B N H A"]:
        c = self.config
        draw = self.generator.standard_normal((batch_size, c.num_samples, len(self._knot_blend)), np.float32)
        fineness = self.generator.random((batch_size, c.num_samples, 1, 1), np.float32)
        scale = c.noise_std * (self.high - self.low) * np.float32(c.min_noise_ratio) ** fineness
        noise = (draw @ self._knot_blend).reshape(batch_size, c.num_samples, c.horizon, -1) * scale
        noise[:, 0] = 0.0
        return noise


def compute_largest_step(
    max_step: np.ndarray, *, low: np.ndarray, high: np.ndarray
) -> Float[np.ndarray, "A"]:
    """Compute the largest change of an action that stays within `step` after rounding of the sum.

    The gate thus does not limit a plan at its own limits.
    """
    rounding = np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high))
    return np.asarray(max_step - rounding, np.float32)


def compute_knot_weights(horizon: int, num_knots: int) -> Float[np.ndarray, "H K"]:
    """Compute linear interpolation weights of the knots, with equal standard deviation of the noise at every step.

    Args:
        num_knots: Number of knots; at most one for each step is used.
    """
    num_knots = min(num_knots, horizon)
    position = np.linspace(0, num_knots - 1, horizon)
    weight = np.maximum(1 - np.abs(position[:, None] - np.arange(num_knots)), 0)
    return (weight / np.sqrt((weight**2).sum(1, keepdims=True))).astype(np.float32)
