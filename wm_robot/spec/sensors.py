"""Sensors of a robot beyond its joints: what each measures, where it is, and its channels in an observation."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from jaxtyping import Float

from wm_robot.math.rotations import IDENTITY_COLUMNS
from wm_robot.spec.channel_layout import JOINTS, ChannelGroup
from wm_robot.spec.checks import build_section, is_number, require_valid
from wm_robot.spec.floating_base import AXES, BASE

GRAVITY = 9.81
"""Size of the reading of an accelerometer at rest, in m/s²."""
PERIODS_OF_AGE = 3.0
"""Periods of the slower of sensor and control loop, up to which a reading counts as fresh by default."""
MAX_SIZE = 4096
"""Largest number of values of a vector, or of sectors of a scan."""
NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*_?")
TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
RESERVED_NAMES = (JOINTS, BASE)
"""Names of the channels that are no sensor of this list."""
PARTS_BY_FIELD = ("noise", "resolution", "limits")
"""What a sensor has of each of its fields."""
FULL_CIRCLE = (-math.pi, math.pi)


@dataclass(frozen=True, kw_only=True)
class SensorField:
    """Field of a kind of sensor: a quantity with one, three or six numbers, or as many as the sensor declares."""

    unit: str
    parts: tuple[str, ...] = ()
    """Ends of the channel names, such as `x`; empty: one number."""
    limit: float | None = None
    """Largest ordinary reading; None: the spec must say it."""
    is_rotation: bool = False
    is_sized: bool = False
    """Whether the sensor's `size` is the number of its values."""


@dataclass(frozen=True, kw_only=True)
class SensorKind:
    """Kind of sensor: the message that carries it, and its fields."""

    message: str
    fields: Mapping[str, SensorField]
    has_frame: bool = True
    """Whether its readings depend on where it is mounted."""
    has_source: bool = False
    """Whether a sensor of the model may supply its readings."""
    has_nominal: bool = False
    """Whether its readings have a nominal value in simulation, where the model has no source."""


ROTATION = SensorField(
    unit="1",
    parts=tuple(f"{column}_axis_{part}" for column in ("x", "y") for part in AXES),
    limit=1.0,
    is_rotation=True,
)
ANGULAR_VELOCITY = SensorField(unit="rad/s", parts=AXES, limit=35.0)
"""Limit: 2000 °/s, the range of most gyroscopes."""
LINEAR_ACCELERATION = SensorField(unit="m/s²", parts=AXES, limit=160.0)
"""Limit: 16 g, the range of most accelerometers."""
LINEAR_VELOCITY = SensorField(unit="m/s", parts=AXES)
SENSOR_KINDS: Mapping[str, SensorKind] = {
    "imu": SensorKind(
        message="sensor_msgs/Imu",
        fields={
            "orientation": ROTATION,
            "angular_velocity": ANGULAR_VELOCITY,
            "linear_acceleration": LINEAR_ACCELERATION,
        },
    ),
    "wrench": SensorKind(
        message="geometry_msgs/WrenchStamped",
        fields={"force": SensorField(unit="N", parts=AXES), "torque": SensorField(unit="N m", parts=AXES)},
    ),
    "contact": SensorKind(
        message="std_msgs/Float64", fields={"force": SensorField(unit="N")}, has_source=True
    ),
    "range": SensorKind(
        message="sensor_msgs/Range", fields={"range": SensorField(unit="m")}, has_source=True
    ),
    "scan": SensorKind(
        message="sensor_msgs/LaserScan", fields={"range": SensorField(unit="m", is_sized=True)}
    ),
    "odometry": SensorKind(
        message="nav_msgs/Odometry",
        fields={
            "height": SensorField(unit="m"),
            "orientation": ROTATION,
            "linear_velocity": LINEAR_VELOCITY,
            "angular_velocity": ANGULAR_VELOCITY,
        },
    ),
    "pose": SensorKind(
        message="geometry_msgs/PoseStamped",
        fields={"position": SensorField(unit="m", parts=AXES), "orientation": ROTATION},
    ),
    "twist": SensorKind(
        message="geometry_msgs/TwistStamped",
        fields={"linear_velocity": LINEAR_VELOCITY, "angular_velocity": ANGULAR_VELOCITY},
    ),
    "battery": SensorKind(
        message="sensor_msgs/BatteryState",
        fields={"voltage": SensorField(unit="V", limit=100.0)},
        has_frame=False,
        has_source=True,
        has_nominal=True,
    ),
    "temperature": SensorKind(
        message="sensor_msgs/Temperature",
        fields={"temperature": SensorField(unit="°C", limit=150.0)},
        has_frame=False,
        has_source=True,
        has_nominal=True,
    ),
    "vector": SensorKind(
        message="std_msgs/Float64MultiArray",
        fields={"value": SensorField(unit="", is_sized=True)},
        has_frame=False,
        has_source=True,
        has_nominal=True,
    ),
    "scalar": SensorKind(
        message="std_msgs/Float64",
        fields={"value": SensorField(unit="")},
        has_frame=False,
        has_source=True,
        has_nominal=True,
    ),
}
"""Every kind of sensor, by name."""
DISTANCE_KINDS = ("range", "scan")
"""Kinds that measure a distance up to their limit: nothing in reach reads as the limit."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Sensor of a robot beyond its joints.

    In YAML, `noise`, `resolution` and `limits` may also be one number for all fields.
    """

    name: str
    kind: str
    """Of `SENSOR_KINDS`."""
    frame: str = ""
    """Site or body of the model that it is mounted on; also the frame_id of its messages."""
    topic: str = ""
    """ROS topic, relative to the robot's namespace; empty: its name."""
    fields: tuple[str, ...] = ()
    """Observed fields, of those that its kind has; empty: all."""
    size: int = 0
    """Number of values of a vector, or of sectors of a scan."""
    angle: tuple[float, float] = FULL_CIRCLE
    """First and last direction of a scan about the z axis of its frame, in rad; 0 is its x axis."""
    rate: float = 0.0
    """Readings per second; 0: one at each control step."""
    delay: float = 0.0
    """Age of a reading when it arrives, in s. In simulation it is at least a physics step."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation in simulation, in the unit of the field."""
    resolution: Mapping[str, float] = field(default_factory=dict)
    """Quantisation step in simulation; 0: none."""
    loss: float = 0.0
    """Chance that a reading gets lost in simulation."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Largest size of an ordinary reading."""
    required: bool = False
    """Whether the robot may not be driven without it."""
    max_age: float = 0.0
    """Age up to which a reading is valid, in s; 0: see `compute_max_age`."""
    source: str = ""
    """Sensor of the model that supplies its readings in simulation."""
    nominal: float = 0.0
    """Reading in simulation where the model has no source."""

    def __post_init__(self) -> None:
        require_valid(
            NAME.fullmatch(self.name) is not None and self.name not in RESERVED_NAMES,
            f"a sensor is named '{self.name}'",
            f"a letter, then letters, digits and single '_', and none of {list(RESERVED_NAMES)}",
        )
        require_valid(self.kind in SENSOR_KINDS, f"{self._label} has kind '{self.kind}'", self._guess_kind())
        object.__setattr__(self, "topic", self.topic or self.name)
        require_valid(
            TOPIC.fullmatch(self.topic) is not None,
            f"{self._label} has topic '{self.topic}'",
            "a ROS name, as imu/data",
        )
        object.__setattr__(self, "fields", self._list_fields())
        for part in PARTS_BY_FIELD:
            object.__setattr__(self, part, self._complete(part))
        self._check_fields_of_kind()
        for part in ("rate", "delay", "max_age"):
            value = getattr(self, part)
            require_valid(value >= 0, f"{self._label} has {part} {value:g}", "0 or above")
        require_valid(0 <= self.loss < 1, f"{self._label} has loss {self.loss:g}", "from 0 to below 1")

    def _guess_kind(self) -> str:
        close = get_close_matches(self.kind, SENSOR_KINDS, n=1)
        return f"one of {list(SENSOR_KINDS)}" + (f"; did you mean '{close[0]}'" if close else "")

    @property
    def _label(self) -> str:
        return f"sensor '{self.name}'"

    def _list_fields(self) -> tuple[str, ...]:
        """Return the observed fields in the order of the kind."""
        known, given = SENSOR_KINDS[self.kind].fields, self.fields
        is_unique = len(set(given)) == len(given)
        require_valid(is_unique, f"{self._label} has fields {list(given)}", "a list of different fields")
        unknown = [name for name in given if name not in known]
        require_valid(
            not unknown, f"{self._label} of kind '{self.kind}' has fields {unknown}", f"some of {list(known)}"
        )
        return tuple(name for name in known if not given or name in given)

    def _complete(self, part: str) -> dict[str, float]:
        """Return the value of `noise`, `resolution` or `limits` for each observed field."""
        given: Mapping[str, float] = getattr(self, part)
        what = f"{self._label} has {part}"
        unknown = sorted(map(str, set(given) - set(self.fields)))
        require_valid(not unknown, f"{what} for {unknown}", f"for some of {list(self.fields)}")
        for name, value in given.items():
            fits = is_number(value) and (value > 0 if part == "limits" else value >= 0)
            least = "above 0" if part == "limits" else "0 or above"
            require_valid(fits, f"{what} {value!r} for '{name}'", f"a finite number, {least}")
        if part != "limits":
            return {name: float(given.get(name, 0.0)) for name in self.fields}
        known = SENSOR_KINDS[self.kind].fields
        limits = {name: given.get(name, known[name].limit) for name in self.fields}
        lacking = [name for name, limit in limits.items() if limit is None]
        require_valid(
            not lacking,
            f"{self._label} of kind '{self.kind}' has no limits for {lacking}",
            f"the largest ordinary reading of each, as limits: {{{(lacking or ['force'])[0]}: 10.0}}",
        )
        return {name: float(limit) for name, limit in limits.items() if limit is not None}

    def _check_fields_of_kind(self) -> None:
        """Refuse what only other kinds have, and what this one lacks."""
        kind = SENSOR_KINDS[self.kind]
        is_sized = any(kind.fields[name].is_sized for name in self.fields)
        require_valid(
            is_sized <= self.size <= is_sized * MAX_SIZE,
            f"{self._label} of kind '{self.kind}' has size {self.size}",
            f"a whole number from 1 to {MAX_SIZE}" if is_sized else "left out: only vector and scan have one",
        )
        low, high = self.angle
        is_circle = self.angle == FULL_CIRCLE
        require_valid(
            is_circle or (self.kind == "scan" and low < high <= low + 2 * math.pi + 1e-6),
            f"{self._label} of kind '{self.kind}' has angle {list(self.angle)}",
            "two directions in rad, low < high, within a circle"
            if self.kind == "scan"
            else "left out: only a scan has one",
        )
        require_valid(
            bool(self.frame) or not kind.has_frame,
            f"{self._label} of kind '{self.kind}' has no frame",
            "a site or body of the model, as frame: torso",
        )
        require_valid(
            not self.source or kind.has_source,
            f"{self._label} of kind '{self.kind}' has source '{self.source}'",
            f"left out: only {[name for name, each in SENSOR_KINDS.items() if each.has_source]} have one",
        )
        require_valid(
            not self.nominal or kind.has_nominal,
            f"{self._label} of kind '{self.kind}' has nominal {self.nominal:g}",
            f"left out: only {[name for name, each in SENSOR_KINDS.items() if each.has_nominal]} have one",
        )
        require_valid(
            self.kind != "battery" or bool(self.source) or self.nominal > 0,
            f"{self._label} of kind 'battery' has nominal {self.nominal:g}",
            "its voltage in simulation, as nominal: 24.0",
        )

    @property
    def message(self) -> str:
        """ROS message that carries it, such as `sensor_msgs/Imu`."""
        return SENSOR_KINDS[self.kind].message

    @property
    def is_simulated_constant(self) -> bool:
        """Whether its readings in simulation are its nominal value and noise, for lack of a source."""
        return SENSOR_KINDS[self.kind].has_nominal and not self.source

    def count_values(self, name: str) -> int:
        """Return the number of channels of a field."""
        known = SENSOR_KINDS[self.kind].fields[name]
        return self.size if known.is_sized else max(1, len(known.parts))

    def compute_max_age(self, control_rate: float) -> float:
        """Compute the age up to which a reading is valid, in s.

        By default these are three periods of the slower of sensor and control loop, and its delay: no reading is
        younger than that.
        """
        slower = min(self.rate or control_rate, control_rate)
        return self.max_age or PERIODS_OF_AGE / slower + self.delay

    def make_groups(self, control_rate: float) -> tuple[ChannelGroup, ...]:
        """Make the groups of its channels, one for each field, in their order."""
        max_age = self.compute_max_age(control_rate)
        return tuple(
            ChannelGroup(
                kind=f"{self.name}/{name}",
                names=self._list_channels(name),
                wraps=(False,) * self.count_values(name),
                limits=(self.limits[name],) * self.count_values(name),
                is_rotation=SENSOR_KINDS[self.kind].fields[name].is_rotation,
                sensor=self.name,
                is_required=self.required,
                max_age=max_age,
            )
            for name in self.fields
        )

    def _list_channels(self, name: str) -> tuple[str, ...]:
        known = SENSOR_KINDS[self.kind].fields[name]
        parts = tuple(map(str, range(self.size))) if known.is_sized else known.parts
        return tuple(f"{self.name}/{name}.{part}" for part in parts) or (f"{self.name}/{name}",)

    def make_home_channels(
        self, *, rotation: Float[np.ndarray, "3 3"] | None = None, height: float = 0.0
    ) -> Float[np.ndarray, "C"]:
        """Make plausible values of its channels at rest.

        Args:
            rotation: Rotation matrix of its frame in the world; None: none is known, and no rotation is assumed.
            height: Height of its frame, in m.
        """
        matrix = np.eye(3) if rotation is None else rotation
        columns = IDENTITY_COLUMNS if rotation is None else tuple(matrix[:, :2].T.ravel())
        known = {
            "orientation": columns,
            # At rest an accelerometer measures what holds it up, in its own frame.
            "linear_acceleration": tuple(GRAVITY * matrix[2]),
            "height": (height,),
            "position": (0.0, 0.0, height),
        }
        parts = []
        for name in self.fields:
            rest = self.limits[name] / 2 if self.kind in DISTANCE_KINDS else self.nominal
            parts.append(np.array(known.get(name, (rest,) * self.count_values(name)), float))
        return np.concatenate(parts)

    def list_digest_values(self) -> dict[str, Any]:
        """List what decides whether experience is compatible: topic, noise, resolution and age do not."""
        kept = ("name", "kind", "frame", "size", "rate", "delay", "source")
        values: dict[str, Any] = {name: getattr(self, name) for name in kept}
        values["fields"] = list(self.fields)
        if self.kind == "scan":
            values["angle"] = list(self.angle)
        if self.kind in DISTANCE_KINDS:
            values["limits"] = dict(self.limits)
        return values


def build_sensors(values: Any) -> tuple[Sensor, ...]:
    """Build the sensors of a spec from the list in its section."""
    return tuple(build_section(Sensor, _spread_numbers(each)) for each in values)


def _spread_numbers(values: Any) -> Any:
    """Return the values of a sensor, with a mapping of fields in place of one number for all of them."""
    if not isinstance(values, Mapping):
        return values
    label, kind, named = f"sensor '{values.get('name')}'", values.get("kind"), values.get("fields", ())
    require_valid(
        isinstance(named, list | tuple) and all(isinstance(each, str) for each in named),
        f"{label} has fields {named!r}",
        "a list of names",
    )
    size = values.get("size", 0)
    require_valid(isinstance(size, int), f"{label} has size {size!r}", "a whole number")
    known = SENSOR_KINDS[kind].fields if isinstance(kind, str) and kind in SENSOR_KINDS else {}
    observed = [name for name in known if not named or name in named]
    spread = dict(values)
    for part in PARTS_BY_FIELD:
        given = values.get(part, {})
        if is_number(given):
            spread[part] = dict.fromkeys(observed, given)
            continue
        fits = isinstance(given, Mapping) and all(isinstance(name, str) for name in given)
        example = f"a number, or a number for each field, as {{{(observed or ['force'])[0]}: 0.1}}"
        require_valid(fits, f"{label} has {part} {given!r}", example)
        for name, value in given.items():
            require_valid(is_number(value), f"{label} has {part} {value!r} for '{name}'", "a finite number")
    return spread


def check_sensors(sensors: tuple[Sensor, ...], joint_names: list[str]) -> None:
    """Check what sensors must not share with each other and with joints.

    Raises:
        SpecError: If two have one name, or one has that of a joint, or two of different kinds have one topic.
    """
    names = [sensor.name for sensor in sensors]
    require_valid(len(set(names)) == len(names), f"the sensors are named {names}", "unique")
    shared = sorted(set(names) & set(joint_names))
    require_valid(not shared, f"sensors {shared} are named as joints", "named otherwise")
    topics: dict[str, Sensor] = {}
    for sensor in sensors:
        other = topics.setdefault(sensor.topic, sensor)
        require_valid(
            other.message == sensor.message,
            f"sensor '{sensor.name}' of {sensor.message} has topic '{sensor.topic}', as sensor '{other.name}' of "
            f"{other.message}",
            "another topic",
        )
