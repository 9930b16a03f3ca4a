"""Reading checks: finds readings that arrive in time and in range, and are none: frozen or noisy ones."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.adaptation.events import AgentEvent
from wm_robot.adaptation.frozen_readings import FrozenReadings, FrozenReadingsConfig
from wm_robot.adaptation.noisy_readings import NoisyReadings, NoisyReadingsConfig
from wm_robot.spec import RobotSpec

FROZEN, NOISY = "frozen", "noisy"


class ReadingChecks:
    """Reading checks of one robot, by the predictions of its model."""

    def __init__(
        self,
        spec: RobotSpec,
        frozen: FrozenReadingsConfig | None = None,
        noisy: NoisyReadingsConfig | None = None,
    ):
        self._frozen, self._noisy = FrozenReadings(spec, frozen), NoisyReadings(spec, noisy)

    @property
    def counts(self) -> dict[str, int]:
        """How often readings froze or became noisy."""
        return {**self._frozen.counts, **self._noisy.counts}

    @property
    def events(self) -> list[AgentEvent]:
        """Last changes."""
        return sorted((*self._frozen.events, *self._noisy.events))

    def reset(self) -> None:
        """Discard all readings, as when the agent begins; counts and events remain."""
        self._frozen.reset()
        self._noisy.reset()

    def find_faults(self, obs: Float[np.ndarray, "O"]) -> Mapping[str, str]:
        """Find the faults of an observation: field of a sensor, or channel of a joint, → `frozen` or `noisy`."""
        return {
            **dict.fromkeys(self._noisy.find_noisy(), NOISY),
            **dict.fromkeys(self._frozen.find_frozen(obs), FROZEN),
        }

    def has_frozen_required(self, obs: Float[np.ndarray, "O"]) -> bool:
        """Whether a required channel of an observation is frozen."""
        return self._frozen.has_frozen_required(obs)

    def mask(self, obs: Float[np.ndarray, "O"]) -> Float[np.ndarray, "O"]:
        """Return an observation that is NaN where an optional sensor has a fault."""
        return self._noisy.mask(self._frozen.mask(obs))

    def update(
        self,
        step: int,
        reading: Float[np.ndarray, "O"],
        mean: Float[np.ndarray, "O"],
        deviation: Float[np.ndarray, "O"],
        *,
        is_new: Bool[np.ndarray, "O"] | None = None,
        is_predicted: bool = True,
    ) -> None:
        """Compare the readings after one transition with the prediction; see `FrozenReadings.update`."""
        self._frozen.update(step, reading, mean, deviation, is_new=is_new, is_predicted=is_predicted)
        if is_predicted:
            self._noisy.update(step, reading, mean, deviation, is_new=is_new)
