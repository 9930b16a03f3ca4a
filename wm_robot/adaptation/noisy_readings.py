"""Noisy readings: optional sensors whose readings jump about far more than the model predicts."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.adaptation.events import MAX_EVENTS, AgentEvent
from wm_robot.adaptation.frozen_readings import MIN_DEVIATION
from wm_robot.errors import check_at_least
from wm_robot.spec import JOINTS, RobotSpec

MAX_JUMP = 4.0
"""Largest square of a jump that counts, in the variance that is allowed: one wrong reading, with its jump there and
back, is no noise."""


@dataclass(frozen=True, kw_only=True)
class NoisyReadingsConfig:
    """Config of the detector of noisy readings."""

    ratio: float = 25.0
    """Variance of the jumps, in that of the same sensor before, from which it is noisy."""
    half_life: float = 5.0
    """Readings in which the variance forgets half."""
    slowness: float = 100.0
    """Times slower in which the variance before is learned."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "ratio", "half_life", "slowness", section="noisy_readings")


class NoisyReadings:
    """Detector of noisy readings of one robot, for each field of its optional sensors.

    A jump is the change of the prediction error from one reading to the next. Noise makes jumps; a change of the
    robot, such as a payload that a wrench sensor feels, makes an error that stays, and one jump. So what is to be
    learned is no noise. The variance of jumps is compared with that of the same field before, and with that of the
    required channels now: where the whole robot is surprising, no sensor is at fault. A noisy field counts again when
    the variance is less than half of what made it noisy.

    Source: Mehra and Peschon (1971), Automatica 7, faults from the innovations of a filter.
    """

    def __init__(self, spec: RobotSpec, config: NoisyReadingsConfig | None = None):
        self.config, self._layout = config or NoisyReadingsConfig(), spec.layout
        units = [
            (group.kind, channels)
            for group, channels in self._layout.slices
            if group.sensor != JOINTS and not group.is_required
        ]
        self._names = tuple(name for name, _ in units)
        self._channels = tuple(channels for _, channels in units)
        self._required = self._layout.is_required
        self.events: deque[AgentEvent] = deque(maxlen=MAX_EVENTS)
        self.counts = {"noisy_readings": 0}
        self.reset()

    def reset(self) -> None:
        """Discard all readings, as when the agent begins; counts and events remain."""
        size = len(self._names)
        self._last = np.full(len(self._required), np.nan)
        """Error of the last reading of each channel, in predicted deviations."""
        self._variance, self._usual = np.ones(size), np.ones(size)
        """Variance of the jumps of each field, and the usual one."""
        self._required_variance = 1.0
        self._noisy = np.zeros(size, bool)

    def find_noisy(self) -> tuple[str, ...]:
        """Find the noisy fields, such as `imu/angular_velocity`."""
        return tuple(name for name, noisy in zip(self._names, self._noisy, strict=True) if noisy)

    def mask(self, obs: Float[np.ndarray, "O"]) -> Float[np.ndarray, "O"]:
        """Return an observation that is NaN in the noisy fields."""
        if not self._noisy.any():
            return obs
        masked = obs.copy()
        for channels, noisy in zip(self._channels, self._noisy, strict=True):
            if noisy:
                masked[channels] = np.nan
        return masked

    def update(
        self,
        step: int,
        reading: Float[np.ndarray, "O"],
        mean: Float[np.ndarray, "O"],
        deviation: Float[np.ndarray, "O"],
        *,
        is_new: Bool[np.ndarray, "O"] | None = None,
    ) -> None:
        """Compare the readings after one transition with the prediction.

        Args:
            step: Number of the transition, for events.
            reading: Observation before it is masked; NaN where there is no reading.
            mean: Predicted observation.
            deviation: Its predicted deviation.
            is_new: Whether a channel has a new reading, and not that of the step before; None: all have.
        """
        if not self._names:
            return
        error = self._layout.subtract(reading, mean) / np.maximum(deviation, MIN_DEVIATION)
        is_read = np.isfinite(reading) if is_new is None else np.isfinite(reading) & is_new
        jump = 0.5 * (error - self._last) ** 2
        self._last = np.where(is_read, error, self._last)
        known = is_read & np.isfinite(jump)
        keep = 0.5 ** (1 / self.config.half_life)
        if (own := known & self._required).any():
            self._required_variance += (1 - keep) * (jump[own].mean() - self._required_variance)
        allowed = self.config.ratio * np.maximum(np.maximum(self._usual, 1.0), self._required_variance)
        for number, channels in enumerate(self._channels):
            if known[channels].any():
                seen = min(jump[channels][known[channels]].mean(), MAX_JUMP * allowed[number])
                self._variance[number] += (1 - keep) * (seen - self._variance[number])
        self._judge(step, allowed, 1 - keep ** (1 / self.config.slowness))

    def _judge(self, step: int, allowed: Float[np.ndarray, "F"], rate: float) -> None:
        """Find the noisy fields; those that are not tell what is usual."""
        found = self._variance > np.where(self._noisy, 0.5, 1.0) * allowed
        for number in np.flatnonzero(found != self._noisy):
            self.counts["noisy_readings"] += bool(found[number])
            text = "jumps more than is predicted" if found[number] else "is as predicted again"
            self.events.append(AgentEvent(step, 0, f"reading '{self._names[number]}' {text}"))
        self._noisy = found
        usual = np.minimum(self._variance, allowed)
        self._usual += np.where(found, 0.0, rate) * (usual - self._usual)
