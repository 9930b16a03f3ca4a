"""Session error: quantiles of the surprise of one session, which the bounds of a validation record limit."""

import math
from array import array
from collections.abc import Iterable, Mapping

LOWEST, BIN_WIDTH, NUM_BINS = -20.0, 0.05, 2400
"""First edge and width of the bins in nats per channel, and their number: up to 100 nats."""
QUANTILES = {"surprise_p50": 0.5, "surprise_p95": 0.95}
"""Name of a session error → its quantile of the surprise, in nats per channel."""
METRIC_PREFIX, STEPS_METRIC = "session_", "session_steps"
"""Of the metrics in a snapshot's manifest."""
MIN_SESSION_TIME = 60.0
"""Time of a session from which on its error is judged, in s of lifetime: a robot may adapt for some seconds."""


class SessionError:
    """Histogram of the surprise of each learned step of a session, with fixed memory."""

    def __init__(self) -> None:
        self._bins = array("q", bytes(8 * NUM_BINS))

    @property
    def num_steps(self) -> int:
        """Number of counted steps."""
        return sum(self._bins)

    def add_surprise(self, nats: float) -> None:
        """Count one step.

        Args:
            nats: Negative log-likelihood in nats per channel. A value that is not finite counts as the largest.
        """
        index = int((nats - LOWEST) / BIN_WIDTH) if math.isfinite(nats) else NUM_BINS
        self._bins[min(max(index, 0), NUM_BINS - 1)] += 1

    def compute_quantile(self, share: float) -> float:
        """Return a quantile of the surprise as the upper edge of its bin, in nats per channel.

        Raises:
            ValueError: If no step was counted.
        """
        # A copy, since another thread may count a step meanwhile.
        bins = self._bins[:]
        total = sum(bins)
        if not total:
            raise ValueError("a session without steps has no quantile")
        rank, seen = max(1, math.ceil(share * total)), 0
        for index, count in enumerate(bins):
            seen += count
            if seen >= rank:
                return LOWEST + (index + 1) * BIN_WIDTH
        raise AssertionError("the bins hold every step")

    def compute_errors(self) -> dict[str, float]:
        """Return the name and value of each session error; empty before the first step."""
        if not self.num_steps:
            return {}
        return {name: round(self.compute_quantile(share), 6) for name, share in QUANTILES.items()}

    def to_metrics(self) -> dict[str, float]:
        """Return the metrics for the manifest of a snapshot; empty before the first step."""
        if not self.num_steps:
            return {}
        errors = {METRIC_PREFIX + name: value for name, value in self.compute_errors().items()}
        return {STEPS_METRIC: float(self.num_steps), **errors}


def read_session_metrics(metrics: Mapping[str, float]) -> tuple[int, dict[str, float]]:
    """Return the number of steps and the errors of the session of a snapshot, from its metrics."""
    errors = {name: metrics[METRIC_PREFIX + name] for name in QUANTILES if METRIC_PREFIX + name in metrics}
    return int(metrics.get(STEPS_METRIC, 0)), errors


def compute_bounds(sessions: Iterable[Mapping[str, float]], *, margin: float = 1.0) -> dict[str, float]:
    """Return the bounds for descendants: the largest error of the judged sessions, and a margin.

    Args:
        sessions: Errors of the sessions of the battery that are as a healthy robot may meet them; see
            `SessionError.compute_errors`.
        margin: Nats per channel that a session may be worse than the worst judged one.
    """
    judged = list(sessions)
    return {
        name: max(session[name] for session in judged) + margin
        for name in QUANTILES
        if judged and all(name in session for session in judged)
    }
