"""Observation assembler: joins the channels of joints and sensors, of different rates and clocks, at one time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.spec import JOINTS, RobotSpec
from wm_robot.streams.clock_offset import ClockOffset
from wm_robot.streams.rejection import RejectionReason
from wm_robot.streams.sensor_buffer import SensorBuffer, select_field
from wm_robot.streams.sensor_health import SensorHealth
from wm_robot.streams.sensor_message import ReadingFault, list_message_sensors

MAX_CLOCK_DIFFERENCE = 0.01
"""Difference of two clocks, in s, below which they count as one, since latencies differ by as much."""


@dataclass(frozen=True, kw_only=True)
class AssembledObservation:
    """Observation at the stamp of the joints."""

    stamp: int
    """In ns by the clock of the joints."""
    values: Float[np.ndarray, "O"]
    """float32; NaN where there is no valid reading. A frozen reading is in it."""
    is_new: Bool[np.ndarray, "O"]
    """Whether a channel is a new reading, and not that of the observation before."""
    faults: Mapping[str, ReadingFault]
    """Kind of a channel group, such as `imu/orientation` → why it has no valid reading. Of joints, it has the names
    of channels that are frozen."""
    missing_required: tuple[str, ...]
    """Required sensors with a fault."""

    @property
    def is_valid(self) -> bool:
        """Whether it may be acted on: every required sensor has valid readings."""
        return not self.missing_required


class ObservationAssembler:
    """Assembler of the observations of one robot."""

    def __init__(self, spec: RobotSpec):
        self._spec, self._layout = spec, spec.layout
        sensors = list_message_sensors(spec)
        first = {name: self._layout.find_sensor(name) for name in sensors}
        self._joint_names = self._layout.names[self._layout.find_sensor(JOINTS)]
        self._required = [
            JOINTS,
            *(name for name in sensors if self._layout.is_required[first[name]].any()),
        ]
        self.buffers = {
            name: SensorBuffer(
                sensor,
                control_rate=spec.rate,
                max_age=float(self._layout.max_ages[first[name]].min()),
            )
            for name, sensor in sensors.items()
        }
        """Sensor of the layout, such as `base` or `imu` → its buffer, which receives its messages."""
        self._fields = [
            (name, field, group.kind, channels)
            for name, sensor in sensors.items()
            for field, (group, channels) in zip(
                sensor.fields,
                (each for each in self._layout.slices if each[0].sensor == name),
                strict=True,
            )
        ]
        """Each field with its sensor, the kind of its channel group, and its channels."""
        self._joint_clock = ClockOffset()
        self._last_arrival = 0
        self._used = dict[str, int]()
        """Kind of a group → stamp of the reading in the last observation."""
        self._faults = dict[str, ReadingFault]()

    def reset(self) -> None:
        """Discard all readings, as at activation."""
        for buffer in self.buffers.values():
            buffer.reset()
        self._joint_clock.reset()
        self._used.clear()
        self._faults.clear()

    def assemble(
        self,
        stamp: int,
        arrival: int,
        joints: Float[np.ndarray, "J"],
        *,
        find_faults: Callable[[np.ndarray], Mapping[str, str]] | None = None,
    ) -> AssembledObservation:
        """Assemble the observation at the stamp of a joint state.

        Of each field it takes the newest valid reading that is not after the stamp.

        Args:
            stamp: Stamp of the joint state, in ns.
            arrival: Its arrival by the clock of this node, in ns.
            joints: Its channels, from `decode_observation`.
            find_faults: Finds the readings of an observation that are frozen or noisy, as `Agent.find_faults` does:
                kinds of channel groups, and names of channels of joints.
        """
        if arrival < self._last_arrival:
            self._joint_clock.reset()
        self._last_arrival = arrival
        self._joint_clock.add_message(stamp, arrival)
        values = np.full(self._spec.obs_dim, np.nan, np.float32)
        is_new = np.zeros(self._spec.obs_dim, bool)
        values[: len(joints)], is_new[: len(joints)] = joints, True
        offsets = {name: self._compare_clocks(buffer) for name, buffer in self.buffers.items()}
        faults = dict[str, ReadingFault]()
        for name, field, kind, channels in self._fields:
            buffer = self.buffers[name]
            max_age = round(1e9 * buffer.max_age)
            found = buffer.find_reading(field, stamp, offsets[name])
            if found is None or stamp - found.stamp - offsets[name] > max_age:
                faults[kind] = self._find_fault(buffer, field, stamp - offsets[name] - max_age)
                continue
            values[channels] = select_field(found, buffer.sensor, field)
            is_new[channels] = self._used.get(kind) != found.stamp
            self._used[kind] = found.stamp
        for kind, cause in find_faults(values).items() if find_faults else ():
            faults[kind] = ReadingFault(cause)
        self._faults = faults
        with_fault = {name for name, _, kind, _ in self._fields if kind in faults}
        if not set(self._joint_names).isdisjoint(faults):
            with_fault.add(JOINTS)
        return AssembledObservation(
            stamp=stamp,
            values=values,
            is_new=is_new,
            faults=faults,
            missing_required=tuple(name for name in self._required if name in with_fault),
        )

    def _compare_clocks(self, buffer: SensorBuffer) -> int:
        """Return by how much the clock of a sensor is behind that of the joints, in ns."""
        difference = buffer.clock_offset - self._joint_clock.offset
        same = min(MAX_CLOCK_DIFFERENCE, self._spec.dt / 2) * 1e9
        return 0 if buffer.has_sender_clock and abs(difference) <= same else difference

    @staticmethod
    def _find_fault(buffer: SensorBuffer, field: str, oldest: int) -> ReadingFault:
        """Return why a field has no valid reading.

        Args:
            oldest: Stamp from which a reading is recent enough, in ns.
        """
        newest = buffer.newest
        if newest is None:
            untimely = (RejectionReason.STALE, RejectionReason.FUTURE)
            rejection = buffer.last_rejection
            return ReadingFault.STALE if rejection and rejection.reason in untimely else ReadingFault.MISSING
        if newest.stamp < oldest:
            return ReadingFault.STALE
        # A first reading that is after the stamp is none yet.
        late = ReadingFault.STALE if buffer.num_stored > 1 else ReadingFault.MISSING
        return newest.reading.faults.get(field, late)

    def list_health(self, now: int) -> list[SensorHealth]:
        """List the health of every sensor besides the joints, with the faults of the last observation.

        Args:
            now: In ns by the clock of this node.
        """
        found = []
        for name, buffer in self.buffers.items():
            fields = [(field, kind) for each, field, kind, _ in self._fields if each == name]
            faults = {field: self._faults[kind] for field, kind in fields if kind in self._faults}
            age, rejection = buffer.compute_age(now), buffer.last_rejection
            if age is None or age > buffer.max_age:
                # Also where there is no observation, for lack of joint states.
                fault = self._find_fault(
                    buffer, fields[0][0], buffer.newest.stamp + 1 if buffer.newest else 0
                )
                faults = {field: fault for field, _ in fields}
            found.append(
                SensorHealth(
                    name=name,
                    topic=buffer.sensor.topic,
                    rate=buffer.message_rate.compute_rate(now),
                    expected_rate=buffer.message_rate.expected_rate,
                    age=age,
                    max_age=buffer.max_age,
                    loss=buffer.message_rate.compute_loss(now),
                    cause=next(iter(faults.values())).value if faults else "",
                    fields=tuple(faults) if len(faults) < len(fields) else (),
                    is_required=name in self._required,
                    clock_offset=buffer.reported_offset,
                    num_rejected=buffer.rejections.total,
                    rejection=str(rejection) if rejection else "",
                )
            )
        return found
