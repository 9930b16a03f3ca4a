"""Worlds: hidden physical parameters of a simulated robot, and the distribution they are drawn from.

Parameters: masses, motors, friction, sensors, gravity and faults.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec

FAULTS = ("weak", "limited", "reversed", "sticky", "dead")
HEALTHY = "ok"
ARRAY_FIELDS = ("gain", "torque", "friction", "damping", "mass", "bias", "tilt")

LOG_UNIFORM_RANGES = ("mass", "gain", "torque", "friction", "damping")
"""Ranges of factors that are drawn log-uniformly."""
RANGE_FIELDS = (*LOG_UNIFORM_RANGES, "payload", "delay")
INTEGER_FIELDS = ("delay", "sensor_delay")
"""Fields that count physics steps."""
DRIVE_SPREAD = 0.65
LOG_SPREADS = {"torque": 0.3, "friction": 0.7, "damping": 0.25, "mass": 0.12}
BIAS_SPREAD = 0.005
PAYLOAD_SPREAD = 0.2
DELAY_SPREAD = 4.0
TILT_SPREAD = 0.04


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Physical parameters of one simulated robot: factors on the nominal robot, faults included."""

    gain: np.ndarray
    """`A`, factor on the motor's gain; 0 is dead. Negative is reversed: a motor gets the negative command, and a
    servo the command mirrored about the middle of its range."""
    torque: np.ndarray
    """`A`, factor on the motor's torque limit."""
    friction: np.ndarray
    """`J`, factor on dry friction."""
    damping: np.ndarray
    """`J`, factor on viscous friction."""
    mass: np.ndarray
    """`J`, factor on the mass of the link that the joint moves."""
    bias: np.ndarray
    """`J`, reading of the position sensor at zero, in rad (m)."""
    tilt: np.ndarray
    """`2`, slope of the ground along x and y, in rad."""
    payload: float = 0.0
    """Mass at the gripper, in kg."""
    delay: int = 0
    """Physics steps from a command to the motor."""
    position_noise: float = 0.0
    """Standard deviation of the position sensors, in rad (m)."""
    velocity_noise: float = 0.0
    """Standard deviation of the velocity sensors, in rad/s (m/s)."""
    sensor_delay: int = 0
    """Age of a reading, in physics steps; less than a control period."""
    fault: tuple[str, ...] = ()
    """`A`, fault of each motor, `ok` for none. A label for reports: the arrays above have its effect."""

    def __post_init__(self) -> None:
        for name in ARRAY_FIELDS:
            values, like = getattr(self, name), "gain" if name in ("gain", "torque") else "friction"
            size = 2 if name == "tilt" else len(getattr(self, like))
            if values.shape != (size,) or not np.isfinite(values).all():
                why = "" if name == "tilt" else f", as many as {like}"
                raise SpecError(f"world.{name} is {values}; it must be {size} finite numbers{why}")
        for name in ("payload", "delay", "position_noise", "velocity_noise", "sensor_delay"):
            _check_number(f"world.{name}", getattr(self, name), is_integer=name in INTEGER_FIELDS)

    def check_sizes(self, spec: RobotSpec) -> "World":
        """Return the world itself, after a check of its sizes against a spec.

        Raises:
            SpecError: If it has another number of motors or joints.
        """
        found, wanted = (len(self.gain), len(self.friction)), (spec.action_dim, len(spec.joints))
        if found != wanted:
            raise SpecError(f"the world has {found} motors and joints; robot '{spec.name}' has {wanted}")
        return self

    def to_vector(self) -> np.ndarray:
        """Return the true physics, float32 `P`, for the `oracle` variant: 0 is nominal, a usual deviation is about 1.

        The order is that of `DomainRandomization.parameter_names`. A motor's gain occurs twice: with its sign
        (the effect of a command) and without (the stiffness of the servo).
        """
        logs = [np.log(np.maximum(getattr(self, name), 1e-3)) / s for name, s in LOG_SPREADS.items()]
        parts = (
            (self.gain - 1) / DRIVE_SPREAD,
            (np.abs(self.gain) - 1) / DRIVE_SPREAD,
            *logs,
            self.bias / BIAS_SPREAD,
            [self.payload / PAYLOAD_SPREAD, self.delay / DELAY_SPREAD],
            self.tilt / TILT_SPREAD,
        )
        return np.concatenate(parts).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else list(v) if isinstance(v, tuple) else v
                for k, v in values.items()}  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "World":
        """Build a world from the result of `to_dict`.

        Raises:
            SpecError: If a key is unknown or a value is invalid.
        """
        _reject_unknown_fields(cls, values)
        try:
            arrays = {name: np.array(values[name], float) for name in ARRAY_FIELDS}
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"world: {type(error).__name__}: {error}") from error
        return cls(**{**values, **arrays, "fault": tuple(values.get("fault", ()))})


@dataclass(frozen=True, kw_only=True)
class WorldRanges:
    """World ranges: the `world:` section of a spec. Pairs are low and high; factors are drawn log-uniformly."""

    payload: tuple[float, float] = (0.0, 0.0)
    """In kg, drawn uniformly."""
    payload_chance: float = 1.0
    """Share of worlds with a payload."""
    payload_body: str = ""
    """Body that carries the payload."""
    mass: tuple[float, float] = (1.0, 1.0)
    gain: tuple[float, float] = (1.0, 1.0)
    torque: tuple[float, float] = (1.0, 1.0)
    friction: tuple[float, float] = (1.0, 1.0)
    damping: tuple[float, float] = (1.0, 1.0)
    bias: float = 0.0
    """Standard deviation, in rad (m)."""
    delay: tuple[int, int] = (0, 0)
    """In physics steps, both ends included."""
    tilt: float = 0.0
    """Largest slope along x and along y, in rad."""
    position_noise: float = 0.0
    velocity_noise: float = 0.0
    sensor_delay: int = 0
    fault_counts: tuple[float, ...] = (1.0,)
    """Chances of 0, 1, 2 … faulty motors."""
    faults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """For each kind its `chance` among faults and the `range` of its factor."""
    pose_center: tuple[float, ...] = ()
    """Center of the reachable poses, in rad (m); empty for the middle of each joint's range."""
    pose_spread: tuple[float, ...] = ()
    """Largest distance of a reachable pose from the center, in rad (m); empty for a third of the joint's range. No
    pose leaves the range of its joint and servos."""
    clearance: float = -np.inf
    """Lowest height of the gripper in a reachable pose, in m."""
    timestep: float = 0.0
    """Physics step in s; 0 for the model's own."""

    def __post_init__(self) -> None:
        for name in RANGE_FIELDS:
            _check_range(
                f"world.{name}",
                getattr(self, name),
                must_be_positive=name in LOG_UNIFORM_RANGES,
                is_integer=name in INTEGER_FIELDS,
            )
        for name in ("bias", "tilt", "position_noise", "velocity_noise", "sensor_delay", "timestep"):
            _check_number(f"world.{name}", getattr(self, name), is_integer=name in INTEGER_FIELDS)
        _check_number("world.payload_chance", self.payload_chance, high=1.0)
        if self.clearance != -np.inf:
            _check_number("world.clearance", self.clearance, low=-np.inf)
        if not isinstance(self.payload_body, str):
            raise SpecError(f"world.payload_body is {self.payload_body!r}; it must be the name of a body")
        _check_numbers("world.pose_center", self.pose_center, low=-np.inf)
        _check_numbers("world.pose_spread", self.pose_spread)
        self._check_faults()

    def _check_faults(self) -> None:
        _check_numbers("world.fault_counts", self.fault_counts, high=1.0)
        if abs(sum(self.fault_counts) - 1) > 1e-6:
            raise SpecError(f"world.fault_counts is {self.fault_counts}; it must sum to 1")
        if not isinstance(self.faults, Mapping):
            raise SpecError(
                f"world.faults is {self.faults!r}; it must be a mapping of some of {list(FAULTS)}"
            )
        unknown = sorted(map(str, set(self.faults) - set(FAULTS)))
        if unknown:
            raise SpecError(f"world.faults has {unknown}; it must be some of {list(FAULTS)}")
        for kind, fault in self.faults.items():
            name = f"world.faults.{kind}"
            if not isinstance(fault, Mapping) or set(fault) - {"chance", "range"}:
                raise SpecError(f"{name} is {fault!r}; it must be such as {{chance: 0.5, range: [0.3, 0.5]}}")
            _check_range(f"{name}.range", fault.get("range"), must_be_positive=False)
            _check_number(f"{name}.chance", fault.get("chance"))
        if self.faults and not sum(fault["chance"] for fault in self.faults.values()):
            raise SpecError("world.faults has chances of 0 only; one must be above 0")
        can_occur = sum(self.fault_counts[1:]) > 0
        if can_occur and not self.faults:
            raise SpecError(
                f"world.fault_counts is {self.fault_counts}, and world.faults has no kind; add one, or "
                "remove fault_counts"
            )
        if self.faults and not can_occur:
            raise SpecError(
                f"world.faults has {sorted(self.faults)}, and none occurs, because world.fault_counts is "
                f"{self.fault_counts}; set it to the chances of 0, 1, 2 … faults, such as [0.5, 0.5]"
            )

    @classmethod
    def from_spec(cls, spec: RobotSpec) -> "WorldRanges":
        """Read the ranges of a spec.

        Raises:
            SpecError: If a key is unknown, a value is invalid, or its size is not that of the robot.
        """
        try:
            _reject_unknown_fields(cls, spec.world)
            values: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in spec.world.items()
            }
            return cls(**values)._check_sizes(spec)
        except SpecError as error:
            raise SpecError(f"robot '{spec.name}': {error}") from error

    def _check_sizes(self, spec: RobotSpec) -> "WorldRanges":
        """Return the ranges themselves, after a check of their sizes against a spec."""
        for name in ("pose_center", "pose_spread"):
            values = getattr(self, name)
            if len(values) not in (0, len(spec.joints)):
                raise SpecError(
                    f"world.{name} is {values}; it must have {len(spec.joints)} numbers, one for each of "
                    f"{list(spec.joint_names)}"
                )
        for joint, limits, value in zip(spec.joint_names, spec.pose_limits, self.pose_center, strict=False):
            if not limits[0] <= value <= limits[1]:
                raise SpecError(
                    f"world.pose_center of '{joint}' is {value}; it must be in its range {limits.tolist()}"
                )
        most = max(np.flatnonzero(self.fault_counts), default=0)
        if most > spec.action_dim:
            raise SpecError(
                f"world.fault_counts is {self.fault_counts}, up to {most} faulty motors; the robot has "
                f"{spec.action_dim}. Give at most {spec.action_dim + 1} chances"
            )
        return self


class DomainRandomization:
    """Domain randomisation: the distribution of a robot's worlds."""

    def __init__(self, spec: RobotSpec):
        self.spec = spec
        self.ranges = WorldRanges.from_spec(spec)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the numbers of `World.to_vector`."""
        motors, joints = self.spec.action_names, self.spec.joint_names
        listed = [(motors, "drive"), (motors, "stiffness")]
        listed += [(motors if name == "torque" else joints, name) for name in LOG_SPREADS]
        listed += [(joints, "bias")]
        each = tuple(f"{part}/{what}" for parts, what in listed for part in parts)
        return (*each, "payload", "delay", "tilt_x", "tilt_y")

    def make_nominal_world(self) -> World:
        """Return the robot as its spec describes it: no load, no fault, unbiased sensors with their noise."""
        motors, joints = self.spec.action_dim, len(self.spec.joints)
        return World(
            gain=np.ones(motors),
            torque=np.ones(motors),
            friction=np.ones(joints),
            damping=np.ones(joints),
            mass=np.ones(joints),
            bias=np.zeros(joints),
            tilt=np.zeros(2),
            position_noise=self.ranges.position_noise,
            velocity_noise=self.ranges.velocity_noise,
            sensor_delay=self.ranges.sensor_delay,
            fault=(HEALTHY,) * motors,
        )

    def sample(self, rng: np.random.Generator) -> World:
        """Draw one world."""
        ranges, nominal = self.ranges, self.make_nominal_world()
        motors, joints = self.spec.action_dim, len(self.spec.joints)
        loaded = rng.random() < ranges.payload_chance
        world = replace(
            nominal,
            gain=sample_log_uniform(rng, ranges.gain, motors),
            torque=sample_log_uniform(rng, ranges.torque, motors),
            friction=sample_log_uniform(rng, ranges.friction, joints),
            damping=sample_log_uniform(rng, ranges.damping, joints),
            mass=sample_log_uniform(rng, ranges.mass, joints),
            bias=ranges.bias * rng.standard_normal(joints),
            tilt=rng.uniform(-ranges.tilt, ranges.tilt, 2),
            payload=float(rng.uniform(*ranges.payload)) * loaded,
            delay=int(rng.integers(ranges.delay[0], ranges.delay[1] + 1)),
        )
        return self._add_faults(world, rng)

    def make_loaded_world(self, *, payload: float, weak_joint: str, gain: float) -> World:
        """Return the nominal robot after a named change: a load in the gripper and one weak motor.

        Raises:
            SpecError: If no motor moves that joint.
        """
        world = self.make_nominal_world()
        motor = self._find_motor(weak_joint)
        factor, fault = world.gain, list(world.fault)
        factor[motor], fault[motor] = gain, "weak"
        return replace(world, payload=payload, fault=tuple(fault))

    def _find_motor(self, joint: str) -> int:
        moved = [actuator.joint for actuator in self.spec.actuators]
        if joint not in moved:
            raise SpecError(
                f"robot '{self.spec.name}' has no motor on joint '{joint}'; its motors move {moved}"
            )
        return moved.index(joint)

    def _add_faults(self, world: World, rng: np.random.Generator) -> World:
        counts, kinds = self.ranges.fault_counts, list(self.ranges.faults)
        count = min(rng.choice(len(counts), p=counts), self.spec.action_dim) if kinds else 0
        if not count:
            return world
        chances = np.array([self.ranges.faults[kind]["chance"] for kind in kinds], float)
        gain, torque, friction = world.gain.copy(), world.torque.copy(), world.friction.copy()
        fault = list(world.fault)
        for motor in rng.choice(self.spec.action_dim, count, replace=False):
            kind = kinds[rng.choice(len(kinds), p=chances / chances.sum())]
            factor = rng.uniform(*self.ranges.faults[kind]["range"])
            joint = self.spec.joint_names.index(self.spec.actuators[motor].joint)
            fault[motor] = kind
            if kind == "limited":
                torque[motor] *= factor
            elif kind == "sticky":
                friction[joint] *= factor
            else:
                gain[motor] *= -factor if kind == "reversed" else factor
        return replace(world, gain=gain, torque=torque, friction=friction, fault=tuple(fault))


def sample_log_uniform(
    rng: np.random.Generator, bounds: tuple[float, float], shape: int | tuple[int, ...]
) -> np.ndarray:
    """Draw numbers whose logarithm is uniform between those of the bounds."""
    low, high = np.log(bounds)
    return np.exp(rng.uniform(low, high, shape))


def _check_range(name: str, bounds: Any, *, must_be_positive: bool, is_integer: bool = False) -> None:
    """Reject a value that is no range.

    Args:
        must_be_positive: Whether the numbers must be above 0, instead of at least 0.
    """
    pair = tuple(bounds) if isinstance(bounds, list | tuple) else ()
    fits = len(pair) == 2 and all(_is_number(x, is_integer=is_integer) for x in pair)
    if not fits or not 0 <= pair[0] <= pair[1] or (must_be_positive and pair[0] == 0):
        numbers = "two whole numbers" if is_integer else "two numbers"
        example = "[0, 3]" if is_integer else "[0.5, 1.5]"
        expected = f"{numbers}, low and high, {'above' if must_be_positive else 'from'} 0, such as {example}"
        raise SpecError(f"{name} is {bounds!r}; it must be {expected}{_describe_yaml_numbers(bounds)}")


def _check_numbers(name: str, values: Any, *, low: float = 0.0, high: float = np.inf) -> None:
    """Reject a value that is no list of numbers between two bounds."""
    if not isinstance(values, list | tuple):
        raise SpecError(f"{name} is {values!r}; it must be a list of numbers")
    for number, value in enumerate(values):
        _check_number(f"{name}[{number}]", value, low=low, high=high)


def _check_number(
    name: str, value: Any, *, low: float = 0.0, high: float = np.inf, is_integer: bool = False
) -> None:
    """Reject a value that is no finite number between two bounds."""
    if not _is_number(value, is_integer=is_integer) or not low <= value <= high:
        bounds = (
            "" if low == -np.inf else f", not below {low:g}" + (f" and not above {high:g}") * (high < np.inf)
        )
        kind = "a whole number" if is_integer else "a number"
        raise SpecError(f"{name} is {value!r}; it must be {kind}{bounds}{_describe_yaml_numbers(value)}")


def _is_number(value: Any, *, is_integer: bool) -> bool:
    # A boolean is an integer in Python.
    is_kind = type(value) is not bool and isinstance(value, Integral if is_integer else Real)
    try:
        return is_kind and math.isfinite(value)
    except OverflowError:
        return False


def _describe_yaml_numbers(value: Any) -> str:
    """Return a hint for numbers that YAML reads as text; empty where there is none."""
    parts = value if isinstance(value, list | tuple) else [value]
    texts = [part for part in parts if isinstance(part, str)]
    return ". YAML reads it as text: write it without quotes, and 1e-3 as 1.0e-3" if texts else ""


def _reject_unknown_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Reject a key that is no field of a world or of its ranges."""
    known = sorted(f.name for f in fields(kind))
    unknown = sorted(map(str, set(values) - set(known)))
    if unknown:
        close = get_close_matches(unknown[0], known, n=1)
        guess = f"Did you mean '{close[0]}'? It" if close else "it"
        raise SpecError(f"world has no field {unknown}; {guess} has {known}")
