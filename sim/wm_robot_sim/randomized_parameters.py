"""Randomised parameters: the ranges of `randomize:`, resolved to the elements of a robot's model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot_sim.model_quantities import (
    AXES,
    Lack,
    find_lack,
    find_touched_geoms,
    is_common_element,
    list_elements,
    quote_names,
    refuse_findings,
)
from wm_robot_sim.randomization import DeclaredRange, find_nominal, read_randomization, scale_parameter
from wm_robot_sim.world_ranges import WorldRanges

NUM_QUANTILES = 1000
COMMAND_QUANTITIES = ("actuator/delay", "actuator/scale", "actuator/offset")
SHORTHANDS = {
    "body/mass": "mass",
    "payload/mass": "payload",
    "joint/frictionloss": "friction",
    "joint/damping": "damping",
    "actuator/gain": "gain",
    "actuator/force_limit": "torque",
    "actuator/delay": "delay",
    "sensor/position_bias": "bias",
    "sensor/delay": "sensor_delay",
    "option/gravity": "tilt",
}
"""Quantity → key of `world:` that changes the same; faults have `faults`."""
FAULT_QUANTITIES = {"limited": "actuator/force_limit", "sticky": "joint/frictionloss"}
"""Fault → quantity of the model that it scales; the others scale the gain."""


@dataclass(frozen=True, kw_only=True)
class RandomizedParameter:
    """Randomised parameter: one number of a world, and how it is drawn."""

    name: str
    """Such as `joint/elbow/damping`."""
    quantity: str
    """Without the name of the element, with the unit where there are several, such as `joint/range/shift`."""
    declared: DeclaredRange
    element: str
    """Name of the element; empty for the whole robot."""
    number: int
    """Number of the element in the model; of commands and sensors, in the spec."""
    low: float
    high: float
    step: float = 0.0
    """All values are multiples of it; 0: any value."""

    @property
    def nominal(self) -> float:
        return find_nominal(self.name)

    @property
    def spread(self) -> float:
        """Root mean square of the deviation from nominal, as `scale_parameter` measures it."""
        values = self._transform((np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES)
        square = np.square(scale_parameter(self.name, values)).mean()
        return float(np.sqrt(self.declared.chance * square))

    def sample(self, rng: np.random.Generator) -> float:
        """Draw a value; the nominal one where the chance decides so."""
        value, is_drawn = float(self._transform(rng.random())), rng.random() < self.declared.chance
        return value if is_drawn else self.nominal

    def _transform(self, uniform: float | np.ndarray) -> np.ndarray:
        """Return the values at quantiles."""
        if self.declared.is_log:
            low, high = np.log(self.low), np.log(self.high)
            return np.clip(np.exp(low + (high - low) * uniform), self.low, self.high)
        if self.step:
            first, last = round(self.low / self.step), round(self.high / self.step)
            return (first + np.floor((last - first + 1) * np.asarray(uniform))) * self.step
        return self.low + (self.high - self.low) * np.asarray(uniform)


@dataclass(frozen=True)
class RandomizedFault:
    """Randomised fault: a fault of one motor, and how it is drawn."""

    declared: DeclaredRange
    motor: int


@dataclass(frozen=True)
class RandomizedParameters:
    """Randomised parameters of a robot, sorted by name."""

    parameters: tuple[RandomizedParameter, ...] = ()
    faults: tuple[RandomizedFault, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.parameters)

    @cached_property
    def nominal_values(self) -> dict[str, float]:
        return {each.name: each.nominal for each in self.parameters}

    @cached_property
    def spreads(self) -> dict[str, float]:
        return {each.name: each.spread for each in self.parameters}

    def draw_fault_factors(self, rng: np.random.Generator) -> Iterator[tuple[int, str, float]]:
        """Yield motor, kind and factor of each fault that occurs; at most one for a motor."""
        for motor in sorted({fault.motor for fault in self.faults}):
            own = [fault.declared for fault in self.faults if fault.motor == motor]
            drawn, factor, ends = rng.random(), rng.random(), np.cumsum([each.chance for each in own])
            for declared, end in zip(own, ends, strict=True):
                if drawn < end:
                    low, high = declared.bounds[0]
                    if declared.is_log:
                        yield motor, declared.fault, float(low * (high / low) ** factor)
                    else:
                        yield motor, declared.fault, float(low + (high - low) * factor)
                    break

    def check_names(self, values: Mapping[str, float], robot: str) -> None:
        """Reject parameters of a world that are not those of this robot.

        Raises:
            SpecError: If one is missing, or is not declared.
        """
        known = set(self.names)
        if unknown := sorted(set(values) - known):
            close = get_close_matches(unknown[0], known, n=1)
            guess = f"Did you mean '{close[0]}'? It" if close else "it"
            raise SpecError(
                f"the world has '{unknown[0]}', which randomize of robot '{robot}' does not declare; "
                f"{guess} declares {list(self.names)}"
            )
        if missing := [name for name in self.names if name not in values]:
            raise SpecError(
                f"the world has no value of '{missing[0]}', which randomize of robot '{robot}' declares. "
                "Start from its nominal world"
            )


def resolve_parameters(spec: RobotSpec, model: mujoco.MjModel) -> RandomizedParameters:
    """Resolve the `randomize:` section of a spec against its model.

    Raises:
        SpecError: If a name is unknown, or the model cannot show a range; all in one message.
    """
    if not spec.randomize:
        return RandomizedParameters()
    resolver = _Resolver(spec, model)
    for declared in read_randomization(spec):
        resolver.resolve(declared)
    resolver.check_fault_chances()
    resolver.check_geom_friction()
    refuse_findings(spec, resolver.findings)
    return RandomizedParameters(
        tuple(sorted(resolver.parameters.values(), key=lambda each: each.name)), tuple(resolver.faults)
    )


class _Resolver:
    """Resolver: collects parameters, and what is wrong with their ranges."""

    def __init__(self, spec: RobotSpec, model: mujoco.MjModel):
        self.spec, self.model, self.world = spec, model, WorldRanges.from_spec(spec)
        self.substeps = round(spec.dt / model.opt.timestep)
        self.parameters: dict[str, RandomizedParameter] = {}
        self.faults: list[RandomizedFault] = []
        self.findings: list[str] = []

    def resolve(self, declared: DeclaredRange) -> None:
        named = self._list_named(declared)
        matched = [name for name in named if declared.matches(name)]
        if "*" in declared.pattern and declared.quantity in _MODEL_ELEMENTS:
            matched = [n for n in matched if is_common_element(self.model, declared.element, named[n])]
        if not matched:
            close = get_close_matches(declared.pattern, named, n=1)
            guess = f" Did you mean '{close[0]}'?" if close else ""
            self.findings.append(
                f"randomize names '{declared.key}', and no {_NOUNS[declared.element]} of the robot has that "
                f"name.{guess} Name one of {quote_names(list(named))}"
            )
            return
        lacks: dict[Lack, list[str]] = {}
        for name in matched:
            if (lack := self._find_lack(declared, name, named[name])) is not None:
                lacks.setdefault(lack, []).append(name)
        for lack, names in lacks.items():
            noun = f"{_name_elements(declared.element, len(names))} {quote_names(names)}"
            where = f" for {noun}" if declared.pattern else ""
            others = (
                "name only those that have it" if len(names) < len(matched) else f"remove '{declared.key}'"
            )
            self.findings.append(
                f"randomize '{declared.key}' is {declared.value}, and the model has {lack.words}{where}. "
                f"{lack.remedy}, or {others}"
            )
        self._find_conflicts(declared, matched)
        for name in matched if not lacks else ():
            self._add(declared, name, named[name])

    def check_fault_chances(self) -> None:
        for motor, name in enumerate(self.spec.action_names):
            own = [fault.declared for fault in self.faults if fault.motor == motor]
            total = sum(each.chance for each in own)
            if total > 1 + 1e-9:
                self.findings.append(
                    f"randomize gives actuator '{name}' faults with chances of {total:g} together, by "
                    f"{[each.key for each in own]}. Make them smaller: their sum is at most 1"
                )

    def check_geom_friction(self) -> None:
        """Find geoms whose friction no contact has: that of the other geom is larger, or has priority."""
        own = {each.number: each for each in self.parameters.values() if each.quantity == "geom/friction"}
        lowest = np.ones(self.model.ngeom)
        for geom, each in own.items():
            lowest[geom] = min(each.low, 1.0) if each.declared.chance < 1 else each.low
        friction, priority = self.model.geom_friction, self.model.geom_priority
        for geom, each in own.items():
            others = find_touched_geoms(self.model, geom)
            condim = np.maximum(self.model.geom_condim[geom], self.model.geom_condim[others])
            # Sliding, torsional and rolling friction, which a contact has from 3, 4 and 6 dimensions on.
            is_used = condim[:, None] >= [3, 4, 6]
            is_larger = friction[geom] * each.high > friction[others] * lowest[others, None]
            is_larger = (is_larger & is_used).any(1)
            decides = (priority[geom] > priority[others]) | ((priority[geom] == priority[others]) & is_larger)
            if not decides.any():
                self.findings.append(
                    f"randomize '{each.declared.key}' is {each.declared.value}, and every geom that "
                    f"'{each.element}' touches has more friction, or priority; a contact has the larger one. "
                    "Give those geoms a range too, or less friction"
                )

    def _list_named(self, declared: DeclaredRange) -> dict[str, int]:
        """Return the elements that an entry may name, with their numbers."""
        if not declared.pattern:
            return {"": 0}
        if declared.quantity in _MODEL_ELEMENTS:
            return list_elements(self.model, declared.element)
        names = self.spec.joint_names if declared.element == "sensor" else self.spec.action_names
        return {name: number for number, name in enumerate(names)}

    def _find_lack(self, declared: DeclaredRange, name: str, number: int) -> Lack | None:
        """Return what the robot lacks, so that a range has no effect on an element."""
        low, high = declared.bounds[0]
        if declared.fault:
            return self._find_fault_lack(declared, number)
        if declared.unit == "seconds" and round(high / self.model.opt.timestep) < 1:
            step = self.model.opt.timestep
            return Lack(f"physics steps of {step:g} s, more than twice as long,", "Make it longer")
        if declared.quantity == "sensor/delay":
            is_long = round(high / self.model.opt.timestep) >= self.substeps
            return Lack(f"a control period of {self.spec.dt:g} s", "Set it below that") if is_long else None
        if declared.quantity == "sensor/position_bias" and "position" not in self.spec.interfaces:
            return Lack(
                f"no observation of position, as interfaces is {list(self.spec.interfaces)},",
                "Add 'position' there",
            )
        lack = find_lack(self.model, declared.parameter_quantity, number)
        if lack is None and declared.unit == "shrink":
            width = float(np.ptp(self.model.jnt_range[number]))
            if 2 * high >= width:
                return Lack(f"a range of only {width:g}", f"Shrink each end by less than {width / 2:g}")
        return lack

    def _find_fault_lack(self, declared: DeclaredRange, motor: int) -> Lack | None:
        actuator = self.spec.actuators[motor]
        quantity = FAULT_QUANTITIES.get(declared.fault, "actuator/gain")
        element = quantity.partition("/")[0]
        found = list_elements(self.model, element)
        name = actuator.joint if element == "joint" else actuator.name
        # A name that the model does not have is refused where the spec is held against it.
        lack = find_lack(self.model, quantity, found[name]) if name in found else None
        is_one_sided = not actuator.is_servo and not actuator.range[0] < 0 < actuator.range[1]
        if lack is None and declared.fault == "reversed" and is_one_sided:
            return Lack(f"the range {list(actuator.range)}, of one sign,", "Widen it")
        return lack

    def _find_conflicts(self, declared: DeclaredRange, names: list[str]) -> None:
        """Find the keys of `world:` that change the same quantity of the same element."""
        shorthand = "faults" if declared.fault else SHORTHANDS.get(declared.quantity, "")
        if shorthand not in self.spec.world:
            return
        joints = self.spec.joint_names
        found = list_elements(self.model, "joint")
        moved = [self.model.body(self.model.jnt_bodyid[found[name]]).name for name in joints if name in found]
        covered = {
            "mass": moved,
            "payload": [self.world.payload_body],
            "gain": self.spec.action_names,
            "torque": self.spec.action_names,
            "friction": joints,
            "damping": joints,
        }.get(shorthand, names)
        if common := [name for name in names if name in covered]:
            of_names = f" of {quote_names(common)}" if declared.pattern else ""
            self.findings.append(
                f"randomize '{declared.key}' and world.{shorthand} change the same quantity{of_names}. "
                "Remove one of the two"
            )

    def _add(self, declared: DeclaredRange, name: str, number: int) -> None:
        if declared.fault:
            self.faults.append(RandomizedFault(declared, number))
            return
        quantity = declared.parameter_quantity
        suffixes = [quantity]
        if quantity == "option/gravity/shift":
            suffixes = [f"option/gravity/{axis}" for axis in AXES]
        for each, (low, high) in zip(suffixes, declared.bounds, strict=True):
            if low == high == find_nominal(each):
                continue
            element, _, rest = each.partition("/")
            full = f"{element}/{name}/{rest}" if name else each
            if full in self.parameters:
                first = self.parameters[full].declared.key
                self.findings.append(
                    f"randomize gives '{full}' twice, by '{first}' and '{declared.key}'. Remove one of the two"
                )
                continue
            self.parameters[full] = RandomizedParameter(
                name=full,
                quantity=each,
                declared=declared,
                element=name,
                number=number,
                low=low,
                high=high,
                step=self.model.opt.timestep if declared.unit == "seconds" else 0.0,
            )


_MODEL_ELEMENTS = (
    "body/mass", "payload/mass", "joint/damping", "joint/armature", "joint/frictionloss", "joint/stiffness",
    "joint/range", "actuator/gain", "actuator/force_limit", "geom/friction",
)  # fmt: skip
"""Quantities of named elements of the model; the other names are those of the spec."""


def _name_elements(element: str, count: int) -> str:
    noun = _NOUNS[element]
    return noun if count == 1 else "bodies" if noun == "body" else f"{noun}s"


_NOUNS = {
    "body": "body", "payload": "body", "joint": "joint", "actuator": "actuator", "geom": "geom",
    "sensor": "joint", "fault": "actuator", "option": "option",
}  # fmt: skip
