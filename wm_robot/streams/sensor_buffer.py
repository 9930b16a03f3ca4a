"""Sensor buffer: the last readings of one sensor, by the time of their measurement."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.spec import Sensor
from wm_robot.streams.clock_offset import ClockOffset
from wm_robot.streams.rejection import (
    STAMP_FAULTS,
    BadMessageError,
    RejectionCounters,
    check_stamp,
)
from wm_robot.streams.sensor_health import MessageRate
from wm_robot.streams.sensor_message import (
    SensorReading,
    decode_reading,
    has_header,
    read_message_stamp,
)

MAX_READINGS = 64
"""Number of readings that are stored: an eighth of a second at 500 Hz."""


@dataclass(frozen=True)
class StampedReading:
    """Reading with its times, in ns."""

    stamp: int
    """Time of the measurement by the clock of the sender."""
    arrival: int
    """Time of arrival by the clock of this node."""
    reading: SensorReading


class SensorBuffer:
    """Buffer of the readings of one sensor."""

    def __init__(self, sensor: Sensor, *, control_rate: float, max_age: float | None = None):
        """Args:
        control_rate: In Hz.
        max_age: Age up to which a reading is valid, in s; None: that of the sensor.
        """
        self.sensor = sensor
        self.max_age = sensor.compute_max_age(control_rate) if max_age is None else max_age
        self.rejections = RejectionCounters()
        self.num_accepted = 0
        self.fault_counts = dict.fromkeys(sensor.fields, 0)
        """Field → number of readings in which it has no valid value."""
        self.message_rate = MessageRate(sensor.rate or control_rate)
        self.last_rejection: BadMessageError | None = None
        """Why the newest message was rejected; None if it was used."""
        self._clock = ClockOffset(delay=sensor.delay)
        self._readings: deque[StampedReading] = deque(maxlen=MAX_READINGS)
        self._last_arrival = self._last_stamp = 0

    def reset(self) -> None:
        """Discard all readings, as at activation; the counters remain."""
        self._readings.clear()
        self._clock.reset()
        self.message_rate.reset()
        self.last_rejection = None
        self._last_arrival = self._last_stamp = 0

    @property
    def newest(self) -> StampedReading | None:
        """Newest reading; None if there is none."""
        return self._readings[-1] if self._readings else None

    @property
    def num_stored(self) -> int:
        """Number of stored readings."""
        return len(self._readings)

    @property
    def clock_offset(self) -> int:
        """Offset of the sender's clock in ns, positive if it is behind that of this node."""
        return self._clock.offset if has_header(self.sensor) else 0

    @property
    def reported_offset(self) -> float | None:
        """Offset of the sender's clock that is too large to be corrected, in s; None if there is none."""
        return self._clock.reported_offset

    @property
    def has_sender_clock(self) -> bool:
        """Whether its stamps come from the sender, and not from the arrival."""
        return has_header(self.sensor)

    def receive_message(self, message: Any, arrival: int) -> None:
        """Decode a message and store its reading.

        Args:
            arrival: In ns by the clock of this node.

        Raises:
            BadMessageError: If it is rejected; it is counted, and nothing is stored.
        """
        if arrival < self._last_arrival:
            # The clock of this node jumped back, as when a simulation restarts.
            self.reset()
        self._last_arrival = arrival
        self.message_rate.add_message(arrival)
        try:
            stamp = read_message_stamp(message, self.sensor, arrival)
            if self.has_sender_clock:
                self._check_stamp(stamp, arrival)
            reading = decode_reading(message, self.sensor)
        except BadMessageError as error:
            self.rejections.count_rejection(error.reason)
            self.last_rejection = error
            raise
        for name in reading.faults:
            self.fault_counts[name] += 1
        self._last_stamp, self.last_rejection = stamp, None
        self._readings.append(StampedReading(stamp, arrival, reading))
        self.num_accepted += 1

    def _check_stamp(self, stamp: int, arrival: int) -> None:
        """Check that a stamp may follow the last one, with the offset of the sender's clock corrected."""
        if stamp > 0:
            self._clock.add_message(stamp, arrival)
        shift = self._clock.offset
        last = self._last_stamp + shift if self._last_stamp else 0
        # No stamp remains none.
        corrected = stamp + shift if stamp > 0 else 0
        refusal = check_stamp(corrected, arrival, last, round(1e9 * self.max_age))
        if refusal:
            raise BadMessageError(refusal, STAMP_FAULTS[refusal])

    def find_reading(self, name: str, stamp: int, offset: int) -> StampedReading | None:
        """Find the newest reading of a field without a fault that is not after a stamp; None if there is none.

        Args:
            name: Field of the sensor.
            stamp: In ns by another clock.
            offset: Offset of the sender's clock to that one, in ns; positive if the sender's is behind.
        """
        return next(
            (
                each
                for each in reversed(self._readings)
                if each.stamp + offset <= stamp and name not in each.reading.faults
            ),
            None,
        )

    def compute_age(self, now: int) -> float | None:
        """Compute the age of the newest reading at a time of this node's clock in ns, in s; None if there is none."""
        if self.newest is None:
            return None
        return max(0, now - self.newest.stamp - self.clock_offset) / 1e9

    def count_faults(self) -> dict[str, int]:
        """Count what was rejected, by reason, and the readings without a valid field, by field."""
        return {**self.rejections.to_dict(), **self.fault_counts}


def select_field(reading: StampedReading, sensor: Sensor, name: str) -> np.ndarray:
    """Return the channels of one field of a reading."""
    start = 0
    for field in sensor.fields:
        stop = start + sensor.count_values(field)
        if field == name:
            return reading.reading.values[start:stop]
        start = stop
    raise KeyError(name)
