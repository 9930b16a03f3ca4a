"""Episode origin: the robot, base and recorder that an episode comes from, and the channels that it has."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool

from wm_robot import __version__
from wm_robot.errors import SpecError
from wm_robot.spec import JOINTS, RobotSpec
from wm_robot.spec.sensor_difference import describe_sensor_difference, list_sensor_values

SENSOR_PARTS = ("sensor_fields", "sensors")
"""What only a robot with sensors beyond its joints has."""


@dataclass(frozen=True, kw_only=True)
class RecordedField:
    """Field of a sensor in an episode: channels that are new, or missing, together."""

    kind: str
    """Kind of the channel group, such as `imu/orientation`."""
    channels: tuple[str, ...]
    is_required: bool


@dataclass(frozen=True, kw_only=True)
class EpisodeOrigin:
    """Origin of an episode."""

    robot: str
    rate: float
    """Control rate, in Hz."""
    spec_digest: str
    observation: tuple[str, ...]
    action: tuple[str, ...]
    base_digest: str = ""
    """Of the base that acted; empty if not recorded."""
    state_digest: str = ""
    """Of the lifetime state at its start; empty if not recorded."""
    source: str = ""
    """Recorder, or the file from which it was split."""
    salvaged: bool = False
    """Whether its end was lost with the process that wrote it."""
    code: str = __version__
    sensor_fields: tuple[RecordedField, ...] = ()
    """Channels beyond those of the joints, in their order."""
    sensors: tuple[Mapping[str, Any], ...] = ()
    """From `list_sensor_values`; empty for a robot that senses its joints alone."""

    @classmethod
    def from_robot(cls, spec: RobotSpec, **known: Any) -> "EpisodeOrigin":
        """Return the origin for a robot."""
        has_others = spec.layout.sensor_names != (JOINTS,)
        return cls(
            robot=spec.name,
            rate=float(spec.rate),
            spec_digest=spec.compute_digest(),
            observation=spec.observation_names,
            action=spec.action_names,
            sensor_fields=tuple(
                RecordedField(kind=group.kind, channels=group.names, is_required=group.is_required)
                for group in spec.layout.groups
                if group.sensor != JOINTS
            ),
            sensors=tuple(list_sensor_values(spec)) if has_others else (),
            **known,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EpisodeOrigin":
        """Return the origin from plain values, inverse of `to_dict`; other keys are ignored."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name not in SENSOR_PARTS}
        found = tuple(
            RecordedField(
                kind=str(each["kind"]),
                channels=tuple(each["channels"]),
                is_required=bool(each["is_required"]),
            )
            for each in values.get("sensor_fields", ())
        )
        named = {name: tuple(known[name]) for name in ("observation", "action")}
        sensors = tuple(dict(each) for each in values.get("sensors", ()))
        return cls(**{**known, **named}, sensor_fields=found, sensors=sensors)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; those of sensors are left out for a robot that senses its joints alone."""
        return {name: value for name, value in asdict(self).items() if value or name not in SENSOR_PARTS}

    @property
    def is_required(self) -> Bool[np.ndarray, "O"] | None:
        """Whether each channel must have a reading; None: all must."""
        if not self.sensor_fields:
            return None
        found = np.ones(len(self.observation), bool)
        for each, channels in self.list_slices():
            found[channels] = each.is_required
        return found

    def list_slices(self) -> list[tuple[RecordedField, slice]]:
        """List the fields of sensors, each with its channels."""
        starts = [self.observation.index(each.channels[0]) for each in self.sensor_fields]
        return [
            (each, slice(start, start + len(each.channels)))
            for each, start in zip(self.sensor_fields, starts, strict=True)
        ]


def check_same_robot(origin: EpisodeOrigin, spec: RobotSpec, what: str) -> None:
    """Refuse an episode of another robot.

    Raises:
        SpecError: If the digests of the specs differ.
    """
    if origin.spec_digest != spec.compute_digest():
        difference = describe_sensor_difference(origin.sensors, spec, what)
        raise SpecError(
            f"{what} is of robot '{origin.robot}' with spec {origin.spec_digest[:12]}; this is robot "
            f"'{spec.name}' with spec {spec.compute_digest()[:12]}"
            + (f": {difference}" if difference else "")
            + ". Use the spec that it was recorded with"
        )
