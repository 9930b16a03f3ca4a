"""Robot spec: sensors, actuators, kinematics and limits of one robot, read from YAML."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec.channel_layout import ChannelLayout, make_joint_group
from wm_robot.spec.checks import (
    build_section,
    is_number,
    require_list,
    require_mapping,
    require_valid,
)
from wm_robot.spec.floating_base import FloatingBase
from wm_robot.spec.parts import Actuator, Joint, Link, Task, build_task
from wm_robot.spec.safety import Safety, build_safety
from wm_robot.spec.sensors import Sensor, build_sensors, check_sensors

INTERFACES = ("position", "velocity", "effort")
"""Joint interfaces that a sensor may report, in rad, rad/s and N m (m, m/s and N for a slide)."""
RATES = (10.0, 500.0)
"""Slowest and fastest control rate, in Hz."""
LARGEST_PLAN_RATE = 100.0
"""Rate up to which one core makes a plan and an update in each control period, in Hz."""
VERSION = 2
"""Version of spec files."""
EXAMPLES = {
    "world": "world: {gain: [0.7, 1.4]}",
    "randomize": "randomize: {body/hand/mass: {factor: [0.8, 1.2]}}",
    "tasks": "tasks: {stay: {reward: hold}}",
    "safety": "safety: {home: {elbow: 0.5}}",
}
"""Section that is a mapping → what it looks like."""


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """Robot spec: everything that must be equal for two robots to share experience.

    Equal `compute_digest` means compatible experience: same joints, actuators, observation and rate.
    """

    name: str
    rate: float
    """Control rate, in Hz."""
    model: str
    """MJCF or URDF file in the spec's folder, or `package:path` for a file of an installed package."""
    joints: tuple[Joint, ...]
    actuators: tuple[Actuator, ...]
    plan_rate: float = 0.0
    """Rate of new plans, in Hz, a divisor of `rate`; 0: every period, or the largest divisor up to 100 Hz."""
    leave_out: tuple[str, ...] = ()
    """Bodies and geoms of the model that are left out, with all that they carry: objects of other tasks."""
    interfaces: tuple[str, ...] = ("position", "velocity")
    """Joint interfaces in the observation; each lists all joints in order."""
    base: FloatingBase | None = None
    """Floating base; None: the base is fixed."""
    sensors: tuple[Sensor, ...] = ()
    """Sensors beyond the joints; their channels follow those of joints and base."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    chain: tuple[Link, ...] = ()
    """Kinematics from the base to the gripper, for tasks in space."""
    tip: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Gripper point in the frame of the last link, in m."""
    tip_name: str = ""
    """Site or body of the model that is the gripper point; chain and tip are then read off the model."""
    model_digest: str = ""
    """Digest of the model's physical quantities; see `wm_robot.robots.robot_model`. Empty: no model is attached."""
    world: Mapping[str, Any] = field(default_factory=dict)
    """Randomisation ranges of the simulator, by the short names of `wm_robot_sim.world_ranges`."""
    randomize: Mapping[str, Any] = field(default_factory=dict)
    """Randomisation ranges of the simulator, by the names of quantities of the model; see docs/dynamics.md."""
    safety: Safety = field(default_factory=Safety)
    folder: Path = Path()

    def __post_init__(self) -> None:
        slowest, fastest = RATES
        require_valid(
            slowest <= self.rate <= fastest,
            f"robot '{self.name}' has rate {self.rate} Hz",
            f"{slowest:g} to {fastest:g}",
        )
        require_valid(
            self.plan_rate == 0
            or (0 < self.plan_rate <= self.rate and (self.rate / self.plan_rate).is_integer()),
            f"robot '{self.name}' has plan_rate {self.plan_rate} Hz",
            f"{self.rate:g} Hz, which is its rate, divided by a whole number",
        )
        names = [joint.name for joint in self.joints]
        motors = [actuator.name for actuator in self.actuators]
        for kind, listed in (("joints", names), ("actuators", motors)):
            require_valid(len(listed) > 0, f"robot '{self.name}' has no {kind}", "at least one")
            require_valid(
                len(set(listed)) == len(listed), f"robot '{self.name}' has {kind} {listed}", "unique"
            )
        parts: tuple[Actuator | Link, ...] = (*self.actuators, *self.chain)
        for part in parts:
            require_valid(part.joint in names, f"{part} names joint '{part.joint}'", f"one of {names}")
        for joint, (low, high) in zip(self.joints, self.pose_limits, strict=True):
            servos = {each.name: each.range for each in _find_servos(self, joint.name)}
            require_valid(
                bool(low < high),
                f"joint '{joint.name}' has position range {joint.position}, and its servos have ranges {servos}",
                "overlapping ranges",
            )
            require_valid(
                not (joint.wraps and servos),
                f"joint '{joint.name}' wraps, and its servos are {list(servos)}",
                "moved by velocity or effort: a set-point of an angle that wraps says nothing of the way to it. Or "
                "give it a range",
            )
        unknown = set(self.interfaces) - set(INTERFACES)
        require_valid(not unknown, f"interfaces {sorted(unknown)}", f"some of {sorted(INTERFACES)}")
        check_sensors(self.sensors, names)
        _check_safety(self, names, motors)
        _check_task_starts(self)

    @property
    def dt(self) -> float:
        """Control period, in s."""
        return 1.0 / self.rate

    @property
    def plan_interval(self) -> int:
        """Number of control periods from one plan to the next."""
        return round(self.rate / self.plan_rate) if self.plan_rate else -int(-self.rate // LARGEST_PLAN_RATE)

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def observation_names(self) -> tuple[str, ...]:
        """Channels as `<joint>/<interface>` and `<sensor>/<field>.<axis>`."""
        return self.layout.names

    @cached_property
    def layout(self) -> ChannelLayout:
        """What each channel of an observation is."""
        limits = {
            "position": [max(map(abs, joint.position)) for joint in self.joints],
            "velocity": [joint.velocity for joint in self.joints],
            "effort": [joint.effort for joint in self.joints],
        }
        max_age = self.safety.max_age_periods * self.dt
        wraps = [joint.wraps for joint in self.joints]
        groups = [
            make_joint_group(kind, self.joint_names, wraps=wraps, limits=limits[kind], max_age=max_age)
            for kind in self.interfaces
        ]
        if self.base:
            groups += self.base.make_groups(max_age)
        for sensor in self.sensors:
            groups += sensor.make_groups(self.rate)
        return ChannelLayout(tuple(groups))

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(actuator.name for actuator in self.actuators)

    @property
    def action_units(self) -> tuple[str, ...]:
        """Unit of each action; `1` for an effort as the model scales it."""
        kinds = {joint.name: joint.kind for joint in self.joints}
        lengths = ("rad" if kinds[actuator.joint] == "hinge" else "m" for actuator in self.actuators)
        return tuple(
            {"position": length, "velocity": f"{length}/s", "effort": "1"}[actuator.kind]
            for actuator, length in zip(self.actuators, lengths, strict=True)
        )

    @property
    def obs_dim(self) -> int:
        return len(self.layout.names)

    @property
    def action_dim(self) -> int:
        return len(self.actuators)

    @property
    def action_low(self) -> np.ndarray:
        return np.array([a.range[0] for a in self.actuators], np.float32)

    @property
    def action_high(self) -> np.ndarray:
        return np.array([a.range[1] for a in self.actuators], np.float32)

    @property
    def action_step(self) -> np.ndarray:
        """Largest change of the action from one control step to the next, in its own units."""
        return np.array([a.rate * self.dt for a in self.actuators], np.float32)

    @property
    def pose_limits(self) -> np.ndarray:
        """Range of each joint, narrowed to the targets that its servos accept, `J 2`, in rad (m)."""
        ranges = [
            [each.position, *(servo.range for servo in _find_servos(self, each.name))] for each in self.joints
        ]
        limits = [(max(low for low, _ in each), min(high for _, high in each)) for each in ranges]
        return np.array(limits, np.float64)

    @property
    def home_position(self) -> np.ndarray:
        """Rest position of each joint, `J`, in rad (m): as the spec says, or the middle of `pose_limits`."""
        middle = dict(zip(self.joint_names, self.pose_limits.mean(1), strict=True))
        return np.array([self.safety.home.get(name, middle[name]) for name in self.joint_names])

    @property
    def home_action(self) -> np.ndarray:
        """Action at rest, float32 `A`: servos at `home_position`, and motors released.

        A motor whose range excludes zero gets the value nearest to it.
        """
        home = dict(zip(self.joint_names, self.home_position, strict=True))
        rest = [home[each.joint] if each.is_servo else 0.0 for each in self.actuators]
        return np.clip(np.array(rest, np.float32), self.action_low, self.action_high)

    def find_task(self, name: str) -> Task:
        """Return the task with a name.

        Raises:
            SpecError: If the robot has no such task.
        """
        if name not in self.tasks:
            raise SpecError(f"robot '{self.name}' has no task '{name}'; it has {sorted(self.tasks)}")
        return self.tasks[name]

    def compute_digest(self) -> str:
        """Compute the SHA-256 of the canonical form, in hex."""
        kept = {
            "name": self.name,
            "rate": float(self.rate),
            "interfaces": list(self.interfaces),
            "joints": [_convert_to_floats(_drop_unset(joint)) for joint in self.joints],
            "actuators": [_convert_to_floats(asdict(actuator)) for actuator in self.actuators],
            "model": self.model_digest,
        }
        if self.base:
            kept["base"] = _convert_to_floats(self.base.list_digest_values())
        if self.sensors:
            kept["sensors"] = [_convert_to_floats(sensor.list_digest_values()) for sensor in self.sensors]
        return hashlib.sha256(encode_canonical_json(kept)).hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> "RobotSpec":
        """Read a spec from a YAML file.

        Raises:
            SpecError: If a key is unknown or missing, or a value is invalid.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SpecError(
                f"spec {path} cannot be read: {error.strerror}. Give a robot's YAML file"
            ) from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, path: Path) -> "RobotSpec":
        """Parse a spec from the bytes of its file; see `read_file`.

        Args:
            path: Path of the file. The files that the spec names are relative to its folder.
        """
        values = _parse_yaml(content, path)
        version = values.get("version", 1)
        if version != VERSION:
            raise SpecError(
                f"{path} has version {version!r}; this program reads version {VERSION}. "
                f"Run: wm-robot upgrade-spec {path}"
            )
        try:
            return cls.from_dict(values, folder=path.parent)
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, folder: Path = Path()) -> "RobotSpec":
        """Build a spec from plain values; see `read_file`."""
        values = dict(values)
        version = values.pop("version", VERSION)
        require_valid(version == VERSION, f"the spec has version {version!r}", str(VERSION))
        if isinstance(values.get("tip"), str):
            values["tip_name"] = values.pop("tip")
        whose = f"of robot '{values.get('name')}'"
        for name, example in EXAMPLES.items():
            require_mapping(values.get(name, {}), f"{name} {whose}", example)
        for name in ("joints", "actuators", "chain", "leave_out", "sensors"):
            require_list(values.get(name, ()), f"{name} {whose}", "mappings")
        parts: dict[str, Any] = {
            "joints": tuple(build_section(Joint, joint) for joint in values.pop("joints", ())),
            "actuators": tuple(build_section(Actuator, actuator) for actuator in values.pop("actuators", ())),
            "tasks": {name: build_task(name, task) for name, task in values.pop("tasks", {}).items()},
            "chain": tuple(build_section(Link, link) for link in values.pop("chain", ())),
            "safety": build_safety(values.pop("safety", {})),
            "sensors": build_sensors(values.pop("sensors", ())),
        }
        if (base := values.pop("base", None)) is not None:
            parts["base"] = build_section(FloatingBase, base)
        return build_section(cls, {**values, **parts, "folder": folder})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`, without the folder."""
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        if self.base is None:
            del values["base"]
        for name in ("leave_out", "sensors"):
            if not values[name]:
                del values[name]
        return {"version": VERSION, **values}


def _parse_yaml(content: bytes, path: Path) -> dict[str, Any]:
    """Parse the YAML of a spec's file."""
    import yaml

    try:
        values = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise SpecError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}. Correct it there"
        ) from error
    if not isinstance(values, dict):
        raise SpecError(
            f"{path} holds {type(values).__name__}; a spec is a mapping with name, rate, joints …"
        )
    return values


def _check_safety(spec: RobotSpec, joints: list[str], motors: list[str]) -> None:
    safety, servos = spec.safety, {a.name: a.joint for a in spec.actuators if a.is_servo}
    for kind, known in (
        ("acceleration", motors),
        ("deceleration", joints),
        ("stiffness", list(servos)),
        ("home", joints),
    ):
        unknown = sorted(set(getattr(safety, kind)) - set(known))
        require_valid(not unknown, f"safety.{kind} names {unknown}", f"some of {known}")
    for joint in spec.joints:
        low, high = joint.position
        rest = safety.home.get(joint.name, low)
        require_valid(low <= rest <= high, f"safety.home of '{joint.name}' is {rest}", f"in {joint.position}")
    if safety.workspace:
        loose = sorted({link.joint for link in spec.chain} - set(servos.values()))
        is_known = bool(spec.chain) or bool(spec.tip_name and not spec.model_digest)
        require_valid(is_known and not loose, f"safety.workspace has no servo for {loose}",
                 "left out, or the robot has a chain whose every joint has a servo")  # fmt: skip


def _check_task_starts(spec: RobotSpec) -> None:
    limits = {joint.name: joint.position for joint in spec.joints}
    for name, task in spec.tasks.items():
        unknown = sorted(set(task.start) - set(limits))
        require_valid(not unknown, f"start of task '{name}' names {unknown}", f"some of {list(limits)}")
        for joint, given in task.start.items():
            low, high = limits[joint]
            is_pair = isinstance(given, list | tuple) and len(given) == 2 and all(map(is_number, given))
            require_valid(
                is_pair and low <= given[0] <= given[1] <= high,
                f"start of '{joint}' in task '{name}' is {given!r}",
                f"[low, high] within {list(limits[joint])}",
            )


def _find_servos(spec: RobotSpec, joint: str) -> list[Actuator]:
    return [each for each in spec.actuators if each.joint == joint and each.is_servo]


def make_home_obs(spec: RobotSpec) -> np.ndarray:
    """Make the observation of a robot at rest at its `home_position`, float32 `O`.

    What only a model tells is plausible, and no more: efforts are zero, and the frame of a sensor is not turned.
    """
    still = np.zeros(len(spec.joints))
    values = {"position": spec.home_position, "velocity": still, "effort": still}
    parts = [values[name] for name in spec.interfaces]
    if spec.base:
        parts.append(spec.base.make_home_channels())
    for sensor in spec.sensors:
        if spec.base and sensor.frame == spec.base.body:
            parts.append(sensor.make_home_channels(rotation=spec.base.home_rotation, height=spec.base.height))
        else:
            parts.append(sensor.make_home_channels())
    return np.concatenate(parts).astype(np.float32)


def encode_canonical_json(values: Any) -> bytes:
    """Encode values so that equal values give equal bytes: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _drop_unset(joint: Joint) -> dict[str, Any]:
    """Return the values of a joint, without `wraps` where it is not set: joints of before keep their digest."""
    values = asdict(joint)
    return values if joint.wraps else {name: each for name, each in values.items() if name != "wraps"}


def _convert_to_floats(value: Any) -> Any:
    """Convert integers to floats, so that 3 and 3.0 in a YAML file are equal."""
    if isinstance(value, Mapping):
        return {key: _convert_to_floats(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_convert_to_floats(part) for part in value]
    return float(value) if isinstance(value, int) else value
