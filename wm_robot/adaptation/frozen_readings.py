"""Frozen readings: sensors that repeat the same bits while the model predicts a change."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.adaptation.events import MAX_EVENTS, AgentEvent
from wm_robot.errors import check_at_least
from wm_robot.spec import JOINTS, ChannelLayout, RobotSpec

MIN_DEVIATION = 1e-9
"""Smallest deviation that a change is divided by."""


@dataclass(frozen=True, kw_only=True)
class FrozenReadingsConfig:
    """Config of the detector of frozen readings."""

    num_readings: int = 10
    """Number of new readings with equal bits."""
    min_change: float = 5.0
    """Change that the model predicts in that time, in its own deviations."""
    slack: float = 3.0
    """Change per step that does not count, in deviations: at rest a model errs by the same amount in every step."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "num_readings", section="frozen_readings")
        check_at_least(0, self, "min_change", "slack", section="frozen_readings")


class FrozenReadings:
    """Detector of frozen readings of one robot, for each field of a sensor and each channel of a joint.

    The evidence is a sum over the steps since the last change of bits: predicted change, in deviations, minus slack,
    and never below 0. A constant error of the prediction is no change: where the model was as far off when the
    reading last changed, nothing counts. So a robot at rest, and a constant battery, are not frozen.

    Source: Page (1954), Biometrika 41, the cumulative sum test.
    """

    def __init__(self, spec: RobotSpec, config: FrozenReadingsConfig | None = None):
        self.config, self._layout = config or FrozenReadingsConfig(), spec.layout
        units = list(_list_units(self._layout))
        self._names = tuple(name for name, _ in units)
        self._starts = np.array([channels.start for _, channels in units])
        self._unit_of = np.repeat(
            np.arange(len(units)), [channels.stop - channels.start for _, channels in units]
        )
        self._is_required = self._layout.is_required
        self.events: deque[AgentEvent] = deque(maxlen=MAX_EVENTS)
        self.counts = {"frozen_readings": 0}
        self.reset()

    def reset(self) -> None:
        """Discard all readings, as when the agent begins; counts and events remain."""
        size = len(self._unit_of)
        self._last = np.full(size, np.nan, np.float32)
        self._offset = np.zeros(size)
        """Prediction minus reading, when the reading last changed."""
        self._evidence = np.zeros(size)
        self._num_equal = np.zeros(len(self._names), int)
        self._frozen = np.zeros(len(self._names), bool)

    def find_frozen(self, obs: Float[np.ndarray, "O"]) -> tuple[str, ...]:
        """Find the frozen fields of an observation, such as `imu/orientation`, and the frozen channels of joints.

        A field is no longer frozen as soon as its bits change.
        """
        if not self._frozen.any():
            return ()
        return tuple(name for name, frozen in zip(self._names, self._find_units(obs), strict=True) if frozen)

    def has_frozen_required(self, obs: Float[np.ndarray, "O"]) -> bool:
        """Whether a required channel of an observation is frozen."""
        return bool(self._frozen.any() and (self._find_units(obs)[self._unit_of] & self._is_required).any())

    def mask(self, obs: Float[np.ndarray, "O"]) -> Float[np.ndarray, "O"]:
        """Return an observation that is NaN in the frozen channels of optional sensors."""
        if not self._frozen.any():
            return obs
        masked = self._find_units(obs)[self._unit_of] & ~self._is_required
        return np.where(masked, np.float32(np.nan), obs) if masked.any() else obs

    def _find_units(self, obs: Float[np.ndarray, "O"]) -> Bool[np.ndarray, "F"]:
        """Return which fields of an observation have the bits at which they froze."""
        return self._frozen & np.logical_and.reduceat(obs.astype(np.float32) == self._last, self._starts)

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
        """Compare the readings after one transition with those before, and with the prediction.

        Args:
            step: Number of the transition, for events.
            reading: Observation before it is masked; NaN where there is no reading.
            mean: Predicted observation.
            deviation: Its predicted deviation.
            is_new: Whether a channel has a new reading, and not that of the step before; None: all have.
            is_predicted: False for a transition that the prediction does not cover, such as a gap.
        """
        numbers = reading.astype(np.float32)
        known = np.isfinite(numbers)
        fresh = known if is_new is None else known & is_new
        changed = np.logical_or.reduceat(known & (numbers != self._last), self._starts)
        has_new = np.logical_or.reduceat(fresh, self._starts)
        offset = np.where(known, self._layout.subtract(mean, reading), 0.0)
        self._num_equal = np.where(changed, 0, self._num_equal + has_new)
        if is_predicted:
            change = np.minimum(np.abs(offset), np.abs(offset - self._offset))
            excess = change / np.maximum(deviation, MIN_DEVIATION) - self.config.slack
            self._evidence = np.where(known, np.maximum(0.0, self._evidence + excess), self._evidence)
        is_changed = changed[self._unit_of]
        self._evidence[is_changed] = 0.0
        self._offset = np.where(is_changed, offset, self._offset)
        self._last = np.where(is_changed, numbers, self._last)
        is_moving = np.logical_or.reduceat(self._evidence > self.config.min_change, self._starts)
        found = ~changed & (self._frozen | (is_moving & (self._num_equal >= self.config.num_readings)))
        self._report_changes(step, found)
        self._frozen = found

    def _report_changes(self, step: int, found: Bool[np.ndarray, "F"]) -> None:
        """Count the fields that froze, and add an event for each change."""
        for unit in np.flatnonzero(found != self._frozen):
            froze = bool(found[unit])
            self.counts["frozen_readings"] += froze
            text = "is frozen: its bits repeat while a change is predicted" if froze else "changes again"
            self.events.append(AgentEvent(step, 0, f"reading '{self._names[unit]}' {text}"))


def _list_units(layout: ChannelLayout) -> Iterator[tuple[str, slice]]:
    """List what freezes as one: a field of a sensor, or a channel of a joint."""
    for group, channels in layout.slices:
        if group.sensor == JOINTS:
            for number, name in enumerate(group.names, channels.start):
                yield name, slice(number, number + 1)
        else:
            yield group.kind, channels
