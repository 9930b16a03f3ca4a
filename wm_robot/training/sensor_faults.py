"""Sensor faults: optional sensors of training segments that stop, freeze, lag or are noisy.

So a base learns to go on without them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wm_robot.errors import ConfigError
from wm_robot.spec.channel_layout import ChannelLayout

KINDS = ("stop", "freeze", "lag", "noise")
"""A sensor that stops has no reading, one that freezes repeats its last one, one that lags gives earlier ones, and a
noisy one adds noise."""
MAX_LAG = 5
"""Longest lag, in control steps."""
NOISE = 0.5, 8.0
"""Standard deviations of the noise of a noisy sensor, in that of the change of a channel from step to step."""


@dataclass(frozen=True, kw_only=True)
class SensorFaultConfig:
    """Config of the sensor faults of a training."""

    batch_fraction: float = 0.5
    """Share of the gradient steps whose segments have faults. Their gaps are filled step by step, in more time."""
    chance: float = 0.5
    """Chance that an optional sensor of a segment has a fault."""
    shortest: int = 2
    """Fewest steps of a fault; the longest lasts to the end of the segment."""

    def __post_init__(self) -> None:
        for name in ("batch_fraction", "chance"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"sensor_faults.{name} is {value}; it must be from 0 to 1")


class SensorFaults:
    """Faults of the optional sensors of a robot. Equal seed and gradient step give equal faults."""

    def __init__(self, layout: ChannelLayout, config: SensorFaultConfig | None = None, *, seed: int = 0):
        self.config, self._seed = config or SensorFaultConfig(), seed
        self._layout = layout
        sensors = [layout.find_sensor(name) for name in layout.sensor_names]
        self._sensors = [channels for channels in sensors if not layout.is_required[channels].any()]

    def disturb(self, obs: Float[np.ndarray, "B T O"], update: int) -> Float[np.ndarray, "B T O"] | None:
        """Return what the sensors of some segments give, with NaN for no reading; None for a gradient step without.

        The first observation of a segment is whole.
        """
        rng = np.random.default_rng([self._seed, update])
        if not self._sensors or rng.random() >= self.config.batch_fraction:
            return None
        sensed = obs.copy()
        for row in range(len(obs)):
            for channels in self._sensors:
                if rng.random() < self.config.chance:
                    self._add_fault(rng, sensed[row], obs[row], channels)
        return sensed

    def _add_fault(
        self, rng: np.random.Generator, sensed: np.ndarray, obs: np.ndarray, channels: slice
    ) -> None:
        num_steps = len(obs)
        if num_steps <= self.config.shortest:
            return
        start = int(rng.integers(1, num_steps - self.config.shortest + 1))
        stop = int(rng.integers(start + self.config.shortest, num_steps + 1))
        kind = KINDS[rng.integers(len(KINDS))]
        if kind == "stop":
            sensed[start:stop, channels] = np.nan
        elif kind == "freeze":
            sensed[start:stop, channels] = obs[start - 1, channels]
        elif kind == "noise":
            scale = rng.uniform(*NOISE) * np.diff(obs[:, channels], axis=0).std(0)
            noisy = obs[start:stop].copy()
            noisy[:, channels] += scale * rng.standard_normal(noisy[:, channels].shape)
            sensed[start:stop, channels] = self._layout.normalize(noisy)[:, channels]
        else:
            lag = int(rng.integers(1, MAX_LAG + 1))
            earlier = np.maximum(np.arange(start, stop) - lag, 0)
            sensed[start:stop, channels] = obs[earlier][:, channels]
