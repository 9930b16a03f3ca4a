"""Scoring of hypotheses: likelihood of a recording with heavy tails, and Gauss-Newton fits of parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.evaluation.diagnosis.simulator import Parameter, Segments, SegmentSimulator
from wm_robot.types import Fault

CHECKED_STEPS = (1, 3, 6, 12)
"""Steps of a segment after which readings are compared; later ones are correlated with them."""
TAIL = 4.0
"""Degrees of freedom of Student's t: an impact that no hypothesis predicts must not decide."""
EVIDENCE = 0.25
"""Weight of a reading: those of one segment are correlated."""
MAX_BOUND_ROUNDS = 4
MAX_STEP = 0.7
"""Largest step of a parameter in one iteration, in its wide standard deviations."""


@dataclass(frozen=True)
class Hypothesis:
    """Hypothesis about a robot: values of its parameters, and faults without a size."""

    values: Float[np.ndarray, "P"]
    faults: tuple[Fault, ...] = ()
    wide: frozenset[int] = frozenset()
    """Parameters that may be far from healthy."""


class Scorer:
    """Scorer of hypotheses on segments of one recording."""

    def __init__(
        self,
        simulator: SegmentSimulator,
        read: Callable[[Segments], Float[np.ndarray, "S T C"]],
        scale: Float[np.ndarray, "K C"],
        ignored: Bool[np.ndarray, "C"],
        count: Callable[[], None] = lambda: None,
    ):
        """Args:
        read: Returns the recorded readings after each step of segments.
        scale: Ordinary error of each reading at the checked steps.
        ignored: Channels without evidence.
        count: Called once for each simulation.
        """
        self.simulator, self._read, self.scale, self._ignored, self._count = (
            simulator, read, scale, ignored, count,
        )  # fmt: skip
        self.parameters: tuple[Parameter, ...] = tuple(simulator.parameters)
        self.center = np.zeros(len(self.parameters))
        """Usual values of this robot, from which healthy ones deviate."""
        self._healthy_std = np.array([each.healthy_std for each in self.parameters])
        self._wide_std = np.array([each.wide_std for each in self.parameters])
        self._low = np.array([each.bounds[0] for each in self.parameters])
        self._high = np.array([each.bounds[1] for each in self.parameters])
        self._healthy_low = np.array([each.healthy[0] for each in self.parameters])
        self._healthy_high = np.array([each.healthy[1] for each in self.parameters])

    def compute_residual(self, hypothesis: Hypothesis, segments: Segments) -> Float[np.ndarray, "S K C"]:
        """Compute recorded minus simulated readings at the checked steps, in ordinary errors."""
        self._count()
        steps = select_checked_steps(segments.length)
        predicted = self.simulator.simulate(segments, hypothesis.values, hypothesis.faults)[:, steps]
        residual = (self._read(segments)[:, steps] - predicted) / self.scale
        residual[..., self._ignored] = 0.0
        # A simulation that diverges is a bad prediction, and no error.
        return np.nan_to_num(residual, nan=1e3, posinf=1e3, neginf=-1e3)

    def compute_slopes(
        self, hypothesis: Hypothesis, residual: np.ndarray, segments: Segments, columns: Sequence[int]
    ) -> Float[np.ndarray, "N S K C"]:
        """Compute the derivative of the predicted readings by some parameters."""
        slopes = np.empty((len(columns), *residual.shape))
        for row, column in enumerate(columns):
            step = self.parameters[column].step
            if not self._low[column] <= hypothesis.values[column] + step <= self._high[column]:
                step = -step
            moved = hypothesis.values.copy()
            moved[column] += step
            changed = self.compute_residual(Hypothesis(moved, hypothesis.faults), segments)
            slopes[row] = (residual - changed) / step
        return slopes

    def compute_precision(self, wide: frozenset[int]) -> Float[np.ndarray, "P"]:
        """Compute the precision of the prior of each parameter."""
        std = self._healthy_std.copy()
        std[list(wide)] = self._wide_std[list(wide)]
        return 1 / std**2

    def compute_objective(
        self,
        residual: Float[np.ndarray, "S K C"],
        hypothesis: Hypothesis,
        weight: Float[np.ndarray, "S"] | None = None,
    ) -> float:
        """Compute the log posterior of a hypothesis.

        Args:
            weight: Of each segment; None: 1.
        """
        likelihood = compute_likelihood(residual)
        total = likelihood.sum() if weight is None else weight @ likelihood
        from_center = hypothesis.values - self.center
        return float(total - 0.5 * (self.compute_precision(hypothesis.wide) * from_center**2).sum())

    def solve(
        self,
        hypothesis: Hypothesis,
        residual: Float[np.ndarray, "S K C"],
        slopes: Float[np.ndarray, "P S K C"],
        *,
        evidence: Float[np.ndarray, "S"] | None = None,
    ) -> tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P P"]]:
        """Return a Gauss-Newton step, and the matrix of the normal equations.

        Parameters that are not wide stay within what healthy robots have.

        Args:
            evidence: Weight of each segment; None: 1.
        """
        values, precision = hypothesis.values, self.compute_precision(hypothesis.wide)
        from_center = values - self.center
        flat = residual.ravel()
        weight = EVIDENCE * (TAIL + 1) / (TAIL + flat**2)
        if evidence is not None:
            weight *= np.repeat(evidence, residual[0].size)
        rows = slopes.reshape(len(slopes), -1)
        matrix = (rows * weight) @ rows.T + np.diag(precision)
        toward = rows @ (weight * flat) - precision * from_center
        low, high = self._find_bounds(hypothesis.wide)
        most = MAX_STEP * self._wide_std
        least_step, most_step = np.maximum(low - values, -most), np.minimum(high - values, most)
        # A value that is out of its bounds before goes back to them.
        least_step, most_step = np.minimum(least_step, most_step), np.maximum(least_step, most_step)
        step, is_free = np.zeros(len(values)), np.ones(len(values), bool)
        for _ in range(MAX_BOUND_ROUNDS):
            free = np.flatnonzero(is_free)
            held = matrix[np.ix_(free, ~is_free)] @ step[~is_free]
            step[free] = np.linalg.solve(matrix[np.ix_(free, free)], toward[free] - held)
            is_out = is_free & ((step < least_step) | (step > most_step))
            if not is_out.any():
                break
            step[is_out] = np.clip(step, least_step, most_step)[is_out]
            is_free &= ~is_out
        return np.clip(step, least_step, most_step), matrix

    def _find_bounds(self, wide: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
        """Find the bounds of each value: those of the simulator, and of healthy robots where it is not wide."""
        low = np.maximum(self._low, self._healthy_low + self.center)
        high = np.minimum(self._high, self._healthy_high + self.center)
        columns = list(wide)
        low[columns], high[columns] = self._low[columns], self._high[columns]
        return low, high

    def fit(
        self,
        hypothesis: Hypothesis,
        segments: Segments,
        slopes: Float[np.ndarray, "P S K C"],
        *,
        refreshed: Sequence[int] = (),
        iterations: int = 3,
    ) -> "Fit":
        """Fit the parameters of a hypothesis.

        Args:
            slopes: Derivative at values near it.
            refreshed: Parameters whose derivative is computed at each iteration.
        """
        residual = self.compute_residual(hypothesis, segments)
        best = self.compute_objective(residual, hypothesis)
        slopes = slopes.copy() if len(refreshed) else slopes
        for _ in range(iterations):
            if len(refreshed):
                slopes[list(refreshed)] = self.compute_slopes(hypothesis, residual, segments, refreshed)
            step, _ = self.solve(hypothesis, residual, slopes)
            before = best
            for share in (1.0, 0.4, 0.15):
                tried = Hypothesis(hypothesis.values + share * step, hypothesis.faults, hypothesis.wide)
                found = self.compute_residual(tried, segments)
                objective = self.compute_objective(found, tried)
                if objective > best:
                    hypothesis, residual, best = tried, found, objective
                    break
            if best - before < 0.5:
                break
        return Fit(hypothesis, residual, best, slopes)


@dataclass(frozen=True)
class Fit:
    """Fit of a hypothesis to segments."""

    hypothesis: Hypothesis
    residual: Float[np.ndarray, "S K C"]
    objective: float
    slopes: Float[np.ndarray, "P S K C"]


def select_checked_steps(length: int) -> list[int]:
    """Select the steps of a segment at which readings are compared, from 0."""
    return sorted({min(step, length) - 1 for step in CHECKED_STEPS} | {length - 1})


def compute_likelihood(residual: Float[np.ndarray, "S K C"]) -> Float[np.ndarray, "S"]:
    """Compute the log likelihood of each segment, in nats."""
    each: np.ndarray = -0.5 * EVIDENCE * (TAIL + 1) * np.log1p(residual**2 / TAIL).sum((1, 2))
    return each
