"""Robot spec: sensors, actuators, kinematics and limits of one robot, read from YAML."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import SpecError

INTERFACES = ("position", "velocity")
"""Joint interfaces that a sensor may report, in rad and rad/s (m and m/s for a slide)."""
ACTUATOR_KINDS = ("position", "velocity", "effort")
JOINT_KINDS = ("hinge", "slide")
VERSION = 2
"""Version of spec files."""
GOAL_TYPES: dict[str, int | None] = {
    "PointStamped": 3,
    "PoseStamped": 7,
    "TwistStamped": 6,
    "JointState": None,
    "Float64MultiArray": None,
}
"""Message in which goals may arrive → number of its values; None: any."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint. Every array of this robot lists the joints in this order."""

    name: str
    position: tuple[float, float]
    """Allowed range, in rad (m for a slide)."""
    velocity: float
    """Largest speed, in rad/s (m/s)."""
    effort: float
    """Largest effort of its motor, in N m (N)."""
    kind: str = "hinge"
    """`hinge` or `slide`."""

    def __post_init__(self) -> None:
        low, high = self.position
        _require_valid(
            self.kind in JOINT_KINDS, f"joint '{self.name}' has kind '{self.kind}'", f"one of {JOINT_KINDS}"
        )
        _require_valid(low < high, f"joint '{self.name}' has position range {self.position}", "low < high")
        _require_valid(self.velocity > 0, f"joint '{self.name}' has velocity {self.velocity}", "above 0")
        _require_valid(self.effort > 0, f"joint '{self.name}' has effort {self.effort}", "above 0")


@dataclass(frozen=True, kw_only=True)
class Actuator:
    """One entry of the action."""

    name: str
    joint: str
    kind: str
    """`position`: set-point of a position, in rad (m); `velocity`: of a speed, in rad/s (m/s); `effort`: as the model
    scales it."""
    range: tuple[float, float]
    """Values that the motor accepts."""
    rate: float
    """Fastest change, in units per second."""

    @property
    def is_servo(self) -> bool:
        """Whether its action is a set-point of the joint's position."""
        return self.kind == "position"

    def __post_init__(self) -> None:
        low, high = self.range
        _require_valid(
            self.kind in ACTUATOR_KINDS,
            f"actuator '{self.name}' has kind '{self.kind}'",
            f"one of {ACTUATOR_KINDS}",
        )
        _require_valid(low < high, f"actuator '{self.name}' has range {self.range}", "low < high")
        _require_valid(self.rate > 0, f"actuator '{self.name}' has rate {self.rate}", "above 0")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Robot task: a reward by name and the size of its goal."""

    reward: str
    """Name of a reward in `wm_robot.tasks`, or `PACKAGE:NAME` for an entry point of an installed package. A command
    may also make a task of a file, `FILE.py:FUNCTION`; a spec may not."""
    goal: int = 0
    """Number of goal values; 0 for a task without goal."""
    goal_type: str = ""
    """Message in which goals arrive, of `GOAL_TYPES`; empty: that of the reward."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the reward."""
    source: str = ""
    """SHA-256 of the file that a reward is from; empty in every spec."""

    def __post_init__(self) -> None:
        whole = isinstance(self.goal, int) and not isinstance(self.goal, bool) and self.goal >= 0
        _require_valid(whole, f"the goal of reward '{self.reward}' is {self.goal!r}", "a number of values")
        if self.goal_type:
            _require_valid(
                self.goal_type in GOAL_TYPES, f"goal_type is '{self.goal_type}'", f"one of {list(GOAL_TYPES)}"
            )
            size = GOAL_TYPES[self.goal_type]
            _require_valid(
                self.goal > 0 and size in (None, self.goal),
                f"goal is {self.goal} and goal_type is '{self.goal_type}'",
                f"goal: {size} for this type" if size else "a goal with values",
            )


@dataclass(frozen=True, kw_only=True)
class Link:
    """One joint of the chain from the base to the gripper."""

    joint: str
    origin: tuple[float, float, float]
    """Position of the joint in the frame of the link before it, in m."""
    axis: tuple[float, float, float]
    """Direction of the joint in its own frame, a unit vector."""
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Rotation of its frame in the frame of the link before it, a unit quaternion (w, x, y, z)."""
    kind: str = "hinge"
    """`hinge` or `slide`."""
    zero: float = 0.0
    """Joint position at which the link is not moved, in rad (m)."""

    def __post_init__(self) -> None:
        for name, count in (("origin", 3), ("axis", 3), ("rotation", 4)):
            values = getattr(self, name)
            fits = len(values) == count and all(math.isfinite(value) for value in values)
            _require_valid(fits, f"the {name} of '{self.joint}' is {values}", f"{count} finite numbers")
        for name in ("axis", "rotation"):
            length = math.hypot(*getattr(self, name))
            _require_valid(
                abs(length - 1) < 1e-3, f"the {name} of '{self.joint}' has length {length:.4g}", "of length 1"
            )
        _require_valid(
            self.kind in JOINT_KINDS, f"the kind of '{self.joint}' is '{self.kind}'", f"one of {JOINT_KINDS}"
        )


@dataclass(frozen=True, kw_only=True)
class Safety:
    """Safety limits of a robot beyond range and rate, for the gate, the supervisor and the guard.

    They are not part of the digest. They only make actions smaller, and the model learns from the applied action.
    """

    acceleration: Mapping[str, float] = field(default_factory=dict)
    """Actuator → fastest change of its action's speed, in units/s²; not listed: limited by its rate only."""
    deceleration: Mapping[str, float] = field(default_factory=dict)
    """Joint → guaranteed braking of its motor, in rad/s² (m/s²); not listed: no stopping distance is computed."""
    stiffness: Mapping[str, float] = field(default_factory=dict)
    """Servo → effort for each rad between target and position, in N m; not listed: any distance is allowed."""
    workspace: tuple[tuple[float, float], ...] = ()
    """Allowed gripper positions: ranges of x, y and z in the frame of the base, in m; empty: anywhere."""
    home: Mapping[str, float] = field(default_factory=dict)
    """Joint → rest position, in rad (m); not listed: the middle of its range."""
    max_age_periods: float = 3.0
    """Largest age of the observation of an accepted action, in control periods."""
    surprise_threshold: float = 100.0
    """Negative log-likelihood of an observation above which it counts as a surprise, in nats per channel."""
    surprise_count_window: tuple[int, int] = (3, 5)
    """Number of surprises in a number of steps that disables the learned controller."""
    missed_deadline_count_window: tuple[int, int] = (3, 5)
    """Number of missed deadlines in a number of steps that disables the learned controller."""
    consecutive_violation_limit: int = 50
    """Number of consecutive limited actions that disables the learned controller."""
    heartbeat_timeout: float = 0.03
    """Longest time without progress of the control loop, in s."""

    def __post_init__(self) -> None:
        for kind in ("acceleration", "deceleration", "stiffness"):
            for name, value in getattr(self, kind).items():
                _require_valid(
                    0 < value < math.inf, f"safety.{kind} of '{name}' is {value}", "above 0 and finite"
                )
        for name in (
            "max_age_periods",
            "surprise_threshold",
            "consecutive_violation_limit",
            "heartbeat_timeout",
        ):
            value = getattr(self, name)
            _require_valid(0 < value < math.inf, f"safety.{name} is {value}", "above 0 and finite")
        for name in ("surprise_count_window", "missed_deadline_count_window"):
            pair = getattr(self, name)
            fits = len(pair) == 2 and 0 < pair[0] <= pair[1]
            _require_valid(fits, f"safety.{name} is {pair}", "a count and a number of steps, as [3, 5]")
        box = self.workspace
        fits = len(box) in (0, 3) and all(len(side) == 2 and side[0] < side[1] for side in box)
        _require_valid(fits, f"safety.workspace is {box}", "three ranges, low < high")


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
    interfaces: tuple[str, ...] = ("position", "velocity")
    """Joint interfaces in the observation; each lists all joints in order."""
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
    """Randomisation ranges of the simulator."""
    safety: Safety = field(default_factory=Safety)
    folder: Path = Path()

    def __post_init__(self) -> None:
        _require_valid(self.rate > 0, f"robot '{self.name}' has rate {self.rate} Hz", "above 0")
        names = [joint.name for joint in self.joints]
        motors = [actuator.name for actuator in self.actuators]
        for kind, listed in (("joints", names), ("actuators", motors)):
            _require_valid(len(listed) > 0, f"robot '{self.name}' has no {kind}", "at least one")
            _require_valid(
                len(set(listed)) == len(listed), f"robot '{self.name}' has {kind} {listed}", "unique"
            )
        parts: tuple[Actuator | Link, ...] = (*self.actuators, *self.chain)
        for part in parts:
            _require_valid(part.joint in names, f"{part} names joint '{part.joint}'", f"one of {names}")
        for joint, (low, high) in zip(self.joints, self.pose_limits, strict=True):
            servos = {each.name: each.range for each in self._find_servos(joint.name)}
            _require_valid(
                bool(low < high),
                f"joint '{joint.name}' has position range {joint.position}, and its servos have ranges {servos}",
                "overlapping ranges",
            )
        unknown = set(self.interfaces) - set(INTERFACES)
        _require_valid(not unknown, f"interfaces {sorted(unknown)}", f"some of {sorted(INTERFACES)}")
        self._check_safety(names, motors)

    def _check_safety(self, joints: list[str], motors: list[str]) -> None:
        safety, servos = self.safety, {a.name: a.joint for a in self.actuators if a.is_servo}
        for kind, known in (
            ("acceleration", motors),
            ("deceleration", joints),
            ("stiffness", list(servos)),
            ("home", joints),
        ):
            unknown = sorted(set(getattr(safety, kind)) - set(known))
            _require_valid(not unknown, f"safety.{kind} names {unknown}", f"some of {known}")
        for joint in self.joints:
            low, high = joint.position
            rest = safety.home.get(joint.name, low)
            _require_valid(
                low <= rest <= high, f"safety.home of '{joint.name}' is {rest}", f"in {joint.position}"
            )
        if safety.workspace:
            loose = sorted({link.joint for link in self.chain} - set(servos.values()))
            is_known = bool(self.chain) or bool(self.tip_name and not self.model_digest)
            _require_valid(is_known and not loose, f"safety.workspace has no servo for {loose}",
                     "left out, or the robot has a chain whose every joint has a servo")  # fmt: skip

    @property
    def dt(self) -> float:
        """Control period, in s."""
        return 1.0 / self.rate

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def observation_names(self) -> tuple[str, ...]:
        """Channels as `<joint>/<interface>`."""
        return tuple(f"{joint}/{i}" for i in self.interfaces for joint in self.joint_names)

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
        return len(self.interfaces) * len(self.joints)

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
            [each.position, *(servo.range for servo in self._find_servos(each.name))] for each in self.joints
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

    @property
    def home_obs(self) -> np.ndarray:
        """Observation of the robot at rest at `home_position`, float32 `O`."""
        values = {"position": self.home_position, "velocity": np.zeros(len(self.joints))}
        return np.concatenate([values[name] for name in self.interfaces]).astype(np.float32)

    def _find_servos(self, joint: str) -> list[Actuator]:
        return [each for each in self.actuators if each.joint == joint and each.is_servo]

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
            "joints": [_convert_to_floats(asdict(joint)) for joint in self.joints],
            "actuators": [_convert_to_floats(asdict(actuator)) for actuator in self.actuators],
            "model": self.model_digest,
        }
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
        _require_valid(version == VERSION, f"the spec has version {version!r}", str(VERSION))
        if isinstance(values.get("tip"), str):
            values["tip_name"] = values.pop("tip")
        world = values.get("world", {})
        _require_valid(
            isinstance(world, Mapping),
            f"robot '{values.get('name')}' has world {world!r}",
            "a mapping, as world: {gain: [0.7, 1.4]}, or left out",
        )
        parts: dict[str, Any] = {
            "joints": tuple(_build_section(Joint, joint) for joint in values.pop("joints", ())),
            "actuators": tuple(
                _build_section(Actuator, actuator) for actuator in values.pop("actuators", ())
            ),
            "tasks": {name: _build_task(name, task) for name, task in values.pop("tasks", {}).items()},
            "chain": tuple(_build_section(Link, link) for link in values.pop("chain", ())),
            "safety": _build_safety(values.pop("safety", {})),
        }
        return _build_section(cls, {**values, **parts, "folder": folder})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`, without the folder."""
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        return {"version": VERSION, **values}


def encode_canonical_json(values: Any) -> bytes:
    """Encode values so that equal values give equal bytes: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _build_section(kind: type, values: Any) -> Any:
    """Build an object from a section of the spec."""
    if not isinstance(values, Mapping):
        raise SpecError(f"{kind.__name__} is {values!r}; it must be a mapping of fields to values")
    known = {each.name: each for each in fields(kind)}
    whose = f"{kind.__name__} '{values['name']}'" if "name" in values else kind.__name__
    if unknown := sorted(map(str, set(values) - set(known))):
        close = get_close_matches(unknown[0], known, n=1)
        guess = f"Did you mean '{close[0]}'? It" if close else "it"
        raise SpecError(f"{whose} has no field {unknown}; {guess} has {sorted(set(known) - {'folder'})}")
    needed = [name for name, each in known.items() if each.default is each.default_factory is MISSING]
    if lacking := [name for name in needed if name not in values]:
        raise SpecError(f"{whose} lacks {lacking}; it must have {needed}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise SpecError(f"{whose}: {error}") from error


def names_reward_file(reward: str) -> bool:
    """Whether a reward is one of a file, `FILE.py:FUNCTION`."""
    return reward.partition(":")[0].endswith(".py") or "/" in reward or "\\" in reward


def check_task_name(name: Any) -> None:
    """Check the name of a task, which becomes part of a file's name.

    Raises:
        SpecError: If it has other characters than letters, digits, `_` and `-`.
    """
    _require_valid(
        isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII) is not None,
        f"a task is named {name!r}",
        "made of letters, digits, '_' and '-'",
    )


def _build_task(name: Any, values: Any) -> Task:
    """Build a task from a section of the spec.

    Raises:
        SpecError: If its name is invalid, or its reward is one of a file.
    """
    check_task_name(name)
    task: Task = _build_section(Task, values)
    if names_reward_file(task.reward) or task.source:
        raise SpecError(
            f"task '{name}' has reward '{task.reward}', which is a file. A spec is data: it travels between robots, "
            "and must not run files. Name a reward of an installed package, PACKAGE:NAME, or give the file on the "
            f"command line: --task {name} --reward FILE.py:FUNCTION"
        )
    return task


def _build_safety(values: Mapping[str, Any]) -> Safety:
    box = tuple(tuple(side) for side in values.get("workspace", ()))
    safety: Safety = _build_section(Safety, {**values, "workspace": box})
    return safety


def _convert_to_floats(value: Any) -> Any:
    """Convert integers to floats, so that 3 and 3.0 in a YAML file are equal."""
    if isinstance(value, Mapping):
        return {key: _convert_to_floats(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_convert_to_floats(part) for part in value]
    return float(value) if isinstance(value, int) else value


def _require_valid(condition: bool, finding: str, expected: str) -> None:
    if not condition:
        raise SpecError(f"{finding}; it must be {expected}")
