"""Sensor health: rate, age and loss of the messages of a sensor, for diagnostics."""

from collections import deque
from dataclasses import dataclass
from typing import Any

MIN_WINDOW = 2.0
"""Shortest time over which messages are counted, in s."""
MIN_PERIODS = 20
"""Smallest number of periods over which messages are counted."""
MAX_COUNTED = 4096
"""Largest number of messages that are counted."""


@dataclass(frozen=True, kw_only=True)
class SensorHealth:
    """Health of a sensor."""

    name: str
    topic: str
    rate: float
    """Messages per second."""
    expected_rate: float
    """Messages per second that the spec declares."""
    age: float | None
    """Age of the newest reading, in s; None if there is none."""
    max_age: float
    """Age up to which a reading is valid, in s."""
    loss: float
    """Share of the expected messages that did not arrive."""
    cause: str = ""
    """Why a field has no valid reading, as the values of `ReadingFault`; empty if all have one."""
    fields: tuple[str, ...] = ()
    """Fields without a valid reading."""
    is_required: bool = False
    clock_offset: float | None = None
    """Offset of the sender's clock that is too large to be corrected, in s; None if there is none."""
    num_rejected: int = 0
    """Messages that were rejected."""
    rejection: str = ""
    """Why the newest message was rejected; empty if it was used."""

    @property
    def level(self) -> str:
        """Level for diagnostics: `ok`, `warn`, or `error` for a required sensor without a valid reading."""
        if self.cause:
            return "error" if self.is_required else "warn"
        return "ok" if self.clock_offset is None else "warn"

    @property
    def sentence(self) -> str:
        """Description with the next move; it has no number that changes from second to second."""
        if self.cause:
            fields = f" of {list(self.fields)}" if self.fields else ""
            effect = (
                "the robot is not driven without it" if self.is_required else "the model predicts it instead"
            )
            advice = f"the last message was rejected: {self.rejection}" if self.rejection else self._advice
            return f"sensor '{self.name}' has no valid reading{fields}, and {effect}: {advice}"
        if self.clock_offset is not None:
            where = "behind" if self.clock_offset > 0 else "ahead of"
            late = ", or its messages are late" if self.clock_offset > 0 else ""
            return (
                f"the clock of sensor '{self.name}' is {where} that of this node by more than can be corrected{late}"
                ". Synchronise the clocks, or give the sensor's delay in the spec"
            )
        return f"sensor '{self.name}' has valid readings"

    @property
    def _advice(self) -> str:
        return {
            "missing": f"no message on '{self.topic}' has it. Start its driver, or remove it from the spec",
            "stale": f"the last one on '{self.topic}' is older than {self.max_age:.3g} s. Did its driver stop?",
            "not_finite": "it is NaN or infinite, or a quaternion without unit length",
            "range": "it is far beyond its limit. Is it broken, or in another unit?",
            "frozen": "it repeats the same bits while the model predicts a change. Restart its driver",
            "noisy": "it jumps far more than the model predicts. Is a cable or its shield broken?",
        }[self.cause]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a diagnostics message."""
        return {
            "rate": round(self.rate, 2),
            "expected_rate": round(self.expected_rate, 2),
            "age": None if self.age is None else round(self.age, 4),
            "max_age": round(self.max_age, 4),
            "loss": round(self.loss, 3),
            "cause": self.cause,
            "fields": " ".join(self.fields),
            "required": self.is_required,
            "clock_offset": None if self.clock_offset is None else round(self.clock_offset, 3),
            "rejected": self.num_rejected,
        }


class MessageRate:
    """Rate and loss of the messages of a sensor, over its last seconds."""

    def __init__(self, expected_rate: float):
        """Args:
        expected_rate: In messages per second.
        """
        self.expected_rate = expected_rate
        self._window = round(1e9 * max(MIN_WINDOW, MIN_PERIODS / expected_rate))
        self._arrivals: deque[int] = deque(maxlen=MAX_COUNTED)

    def reset(self) -> None:
        """Discard all messages."""
        self._arrivals.clear()

    def add_message(self, arrival: int) -> None:
        """Count a message that arrived, in ns."""
        self._arrivals.append(arrival)
        self._drop_before(arrival - self._window)

    def compute_rate(self, now: int) -> float:
        """Compute the messages per second, up to now in ns."""
        span, count = self._measure_periods(now)
        return count / span if span > 0 else 0.0

    def compute_loss(self, now: int) -> float:
        """Compute the share of the expected messages that did not arrive, up to now in ns; 1 without any message."""
        span, count = self._measure_periods(now)
        if not self._arrivals:
            return 1.0
        expected = int(span * self.expected_rate + 1e-6)
        return max(0.0, 1.0 - count / expected) if expected else 0.0

    def _measure_periods(self, now: int) -> tuple[float, int]:
        """Return the time since the first counted message, in s, and the number of messages after it."""
        self._drop_before(now - self._window)
        if not self._arrivals:
            return 0.0, 0
        last = self._arrivals[-1]
        # A message that is due and has not arrived yet is no loss.
        end = last if (now - last) * self.expected_rate < 2e9 else now
        return (end - self._arrivals[0]) / 1e9, len(self._arrivals) - 1

    def _drop_before(self, time: int) -> None:
        while self._arrivals and self._arrivals[0] < time:
            self._arrivals.popleft()
