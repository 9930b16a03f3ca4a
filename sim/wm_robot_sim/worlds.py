"""Worlds: hidden physical parameters of a simulated robot, and the distribution they are drawn from.

Parameters: masses, motors, friction, sensors, gravity and faults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.types import Fault
from wm_robot_sim.effects.effect import Effect
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.randomization import check_parameter, scale_parameter
from wm_robot_sim.randomized_parameters import RandomizedParameters, resolve_parameters
from wm_robot_sim.world_ranges import INTEGER_FIELDS, NOISES, WorldRanges, check_number, reject_unknown_fields

HEALTHY = "ok"
ARRAY_FIELDS = ("gain", "torque", "friction", "damping", "mass", "bias", "tilt")

DRIVE_SPREAD = 0.65
LOG_SPREADS = {"torque": 0.3, "friction": 0.7, "damping": 0.25, "mass": 0.12}
BIAS_SPREAD = 0.005
PAYLOAD_SPREAD = 0.2
DELAY_SPREAD = 4.0
TILT_SPREAD = 0.04
NOT_RANDOMIZED = RandomizedParameters()


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
    effort_noise: float = 0.0
    """Standard deviation of the effort sensors, as a share of the largest effort of each joint."""
    sensor_delay: int = 0
    """Age of a reading, in physics steps; less than a control period."""
    fault: tuple[str, ...] = ()
    """`A`, fault of each motor, `ok` for none. A label for reports: the arrays above have its effect."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Value of each parameter that `randomize:` declares, by name: a factor, a shift, a time in s or a mass in kg."""
    spreads: Mapping[str, float] = field(default_factory=dict)
    """Usual deviation of each parameter, for `to_vector`; of a factor that of its logarithm."""
    effects: tuple[Effect, ...] = ()
    """Undeclared effects, at most one of a kind. `to_vector` does not have them."""
    injected: tuple[Fault, ...] = ()
    """Faults of cables, encoders and gears that the fields above cannot express; see `injected_faults`. `to_vector`
    does not have them."""

    def __post_init__(self) -> None:
        for name in ARRAY_FIELDS:
            values, like = getattr(self, name), "gain" if name in ("gain", "torque") else "friction"
            size = 2 if name == "tilt" else len(getattr(self, like))
            if values.shape != (size,) or not np.isfinite(values).all():
                why = "" if name == "tilt" else f", as many as {like}"
                raise SpecError(f"world.{name} is {values}; it must be {size} finite numbers{why}")
        for name in ("payload", "delay", *NOISES, "sensor_delay"):
            check_number(f"world.{name}", getattr(self, name), is_integer=name in INTEGER_FIELDS)
        self._check_parameters()
        kinds = [effect.kind for effect in self.effects]
        if len(set(kinds)) < len(kinds):
            raise SpecError(f"world.effects has the kinds {kinds}; each may occur once")

    def _check_parameters(self) -> None:
        for name, values in (("parameters", self.parameters), ("spreads", self.spreads)):
            if not isinstance(values, Mapping):
                raise SpecError(f"world.{name} is {values!r}; it must be a mapping of names to numbers")
        for name, value in self.parameters.items():
            check_parameter(name, value)
        if list(self.spreads) != list(self.parameters):
            raise SpecError(
                f"world.spreads names {list(self.spreads)}; it must be the names of world.parameters, "
                f"{list(self.parameters)}"
            )
        for name, spread in self.spreads.items():
            check_number(f"world.spreads '{name}'", spread, low=np.finfo(float).tiny)

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
            [float(scale_parameter(name, x)) / self.spreads[name] for name, x in self.parameters.items()],
        )
        return np.concatenate(parts).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if not self.parameters:
            del values["parameters"], values["spreads"]
        if not self.effort_noise:
            del values["effort_noise"]
        del values["effects"], values["injected"]
        if self.effects:
            values["effects"] = [effect.to_dict() for effect in self.effects]
        if self.injected:
            values["injected"] = [fault.to_dict() for fault in self.injected]
        return {name: _convert_to_plain(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "World":
        """Build a world from the result of `to_dict`.

        Raises:
            SpecError: If a key is unknown or a value is invalid.
        """
        reject_unknown_fields(cls, values)
        try:
            arrays = {name: np.array(values[name], float) for name in ARRAY_FIELDS}
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"world: {type(error).__name__}: {error}") from error
        effects = tuple(Effect.from_dict(each) for each in values.get("effects", ()))
        try:
            injected = tuple(Fault(**each) for each in values.get("injected", ()))
        except TypeError as error:
            raise SpecError(f"world.injected: {error}") from error
        own = {"fault": tuple(values.get("fault", ())), "effects": effects, "injected": injected}
        return cls(**{**values, **arrays, **own})


class DomainRandomization:
    """Domain randomisation: the distribution of a robot's worlds."""

    def __init__(self, spec: RobotSpec):
        self.spec = spec
        self.ranges = WorldRanges.from_spec(spec)
        self.randomized = resolve_parameters(spec, compile_model(spec)) if spec.randomize else NOT_RANDOMIZED

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the numbers of `World.to_vector`."""
        motors, joints = self.spec.action_names, self.spec.joint_names
        listed = [(motors, "drive"), (motors, "stiffness")]
        listed += [(motors if name == "torque" else joints, name) for name in LOG_SPREADS]
        listed += [(joints, "bias")]
        each = tuple(f"{part}/{what}" for parts, what in listed for part in parts)
        return (*each, "payload", "delay", "tilt_x", "tilt_y", *self.randomized.names)

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
            effort_noise=self.ranges.effort_noise,
            sensor_delay=self.ranges.sensor_delay,
            fault=(HEALTHY,) * motors,
            parameters=self.randomized.nominal_values,
            spreads=self.randomized.spreads,
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
        return self._add_parameters(self._add_faults(world, rng), rng)

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

    def make_changed_world(
        self,
        *,
        payload: float = 0.0,
        faults: Sequence[tuple[int, str, float]] = (),
        factors: Mapping[str, float] = MappingProxyType({}),
        parameters: Mapping[str, float] = MappingProxyType({}),
    ) -> World:
        """Return the nominal robot after a change of some parameters.

        Args:
            payload: Mass at the gripper, in kg.
            faults: Number of a motor, kind and factor of each fault.
            factors: Such as `mass`, → factor for all joints or motors.
            parameters: Value of each changed parameter of `randomize:`.
        """
        nominal = self.make_nominal_world()
        scaled = {name: factor * getattr(nominal, name) for name, factor in factors.items()}
        changed = replace(nominal, payload=payload, parameters={**nominal.parameters, **parameters}, **scaled)
        return self._with_faults(changed, faults)

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
        faults = []
        for motor in rng.choice(self.spec.action_dim, count, replace=False):
            kind = kinds[rng.choice(len(kinds), p=chances / chances.sum())]
            faults.append((int(motor), kind, rng.uniform(*self.ranges.faults[kind]["range"])))
        return self._with_faults(world, faults)

    def _add_parameters(self, world: World, rng: np.random.Generator) -> World:
        """Draw what `randomize:` declares, after everything else: the other draws stay those without it."""
        values = {each.name: each.sample(rng) for each in self.randomized.parameters}
        faults = list(self.randomized.draw_fault_factors(rng))
        return self._with_faults(replace(world, parameters=values), faults) if values or faults else world

    def _with_faults(self, world: World, faults: Sequence[tuple[int, str, float]]) -> World:
        gain, torque, friction = world.gain.copy(), world.torque.copy(), world.friction.copy()
        labels = list(world.fault)
        for motor, kind, factor in faults:
            joint = self.spec.joint_names.index(self.spec.actuators[motor].joint)
            labels[motor] = kind
            if kind == "limited":
                torque[motor] *= factor
            elif kind == "sticky":
                friction[joint] *= factor
            else:
                gain[motor] *= -factor if kind == "reversed" else factor
        return replace(world, gain=gain, torque=torque, friction=friction, fault=tuple(labels))


def _convert_to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


def sample_log_uniform(
    rng: np.random.Generator, bounds: tuple[float, float], shape: int | tuple[int, ...]
) -> np.ndarray:
    """Draw numbers whose logarithm is uniform between those of the bounds."""
    low, high = np.log(bounds)
    return np.exp(rng.uniform(low, high, shape))
