"""Recorded observations: joint states and messages of sensors in a recording become observations, as on the robot."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.spec import RobotSpec
from wm_robot.streams.joint_message import NS_PER_S, read_stamp
from wm_robot.streams.observation_assembler import AssembledObservation, ObservationAssembler
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot.streams.sensor_message import has_header, list_message_sensors

MAX_RECEIPT_DIFFERENCE = 0.1
"""Seconds between the stamp of a joint state and its receipt, from which these are of two clocks, as under simulated
time. Then the stamps alone count."""


@dataclass(frozen=True)
class RecordedObservation:
    """Observation at the stamp of a joint state."""

    values: Float[np.ndarray, "O"]
    """float64; NaN in the channels of an optional sensor without a valid reading."""
    is_new: Bool[np.ndarray, "O"] | None
    """Whether each channel is a new reading; None for a robot that senses its joints alone."""


class RecordedObservations:
    """Assembler of the observations of a recording. Frozen readings are in them: a recording has no model."""

    def __init__(self, spec: RobotSpec):
        self.first_rejections = dict[str, str]()
        """Sensor → why its first rejected message was rejected."""
        self._unread = set(list_message_sensors(spec))
        """Sensors without any valid reading so far."""
        self._spec, self._assembler = spec, ObservationAssembler(spec)
        self._sensors = dict[str, list[str]]()
        """Topic → sensors that it carries."""
        for name, sensor in list_message_sensors(spec).items():
            self._sensors.setdefault(sensor.topic, []).append(name)
        self._has_one_clock, self._last_stamp = True, 0

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics of sensors, as in the spec."""
        return tuple(self._sensors)

    def describe_unread(self) -> dict[str, str]:
        """Describe the sensors without any valid reading so far: name → why."""
        found = {}
        for name in sorted(self._unread):
            buffer = self._assembler.buffers[name]
            if name in self.first_rejections:
                found[name] = self.first_rejections[name]
            elif buffer.num_accepted:
                found[name] = f"none of {buffer.num_accepted} messages has a valid one in time"
            else:
                found[name] = f"'{buffer.sensor.topic}' has no message"
        return found

    def receive_reading(self, topic: str, message: Any, received: int) -> None:
        """Receive a message of a sensor; one that is rejected is no reading.

        Args:
            received: Time of its receipt by the clock of the recorder, in ns.
        """
        for name in self._sensors[topic]:
            buffer = self._assembler.buffers[name]
            arrival = received
            if not self._has_one_clock:
                is_stamped = has_header(buffer.sensor)
                delay = round(buffer.sensor.delay * NS_PER_S)
                arrival = read_stamp(message) + delay if is_stamped else self._last_stamp
            try:
                buffer.receive_message(message, arrival)
            except BadMessageError as error:
                self.first_rejections.setdefault(name, str(error))

    def assemble(self, stamp: int, joints: Float[np.ndarray, "J"], received: int) -> RecordedObservation:
        """Assemble the observation at the stamp of a joint state.

        Args:
            stamp: In ns.
            joints: Its channels, from `decode_observation`.
            received: As for `receive_reading`.

        Raises:
            BadMessageError: If a required sensor has no valid reading.
        """
        self._has_one_clock = abs(received - stamp) <= MAX_RECEIPT_DIFFERENCE * NS_PER_S
        self._last_stamp = stamp
        found = self._assembler.assemble(stamp, received if self._has_one_clock else stamp, joints)
        if not found.is_valid:
            raise BadMessageError(RejectionReason.SENSOR, self._describe_missing(found))
        if not self._sensors:
            return RecordedObservation(joints, None)
        self._unread -= {
            group.sensor for group, _ in self._spec.layout.slices if group.kind not in found.faults
        }
        # The numbers of joints as they were recorded, in float64.
        return RecordedObservation(np.concatenate([joints, found.values[len(joints) :]]), found.is_new)

    def _describe_missing(self, found: AssembledObservation) -> str:
        causes = ", ".join(f"{kind} is {fault.value}" for kind, fault in found.faults.items())
        reasons = [
            self.first_rejections[each] for each in found.missing_required if each in self.first_rejections
        ]
        return f"required sensors {list(found.missing_required)} have no valid reading ({causes})" + (
            f": {reasons[0]}" if reasons else ""
        )
