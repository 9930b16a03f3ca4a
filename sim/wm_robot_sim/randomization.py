"""Randomisation: the `randomize:` section of a spec, which maps quantities of a model by name to ranges."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot_sim.world_ranges import FAULTS, check_number, check_range

UNITS_OF_QUANTITY = {
    "body/mass": ("factor",),
    "joint/damping": ("factor",),
    "joint/armature": ("factor",),
    "joint/frictionloss": ("factor",),
    "joint/stiffness": ("factor",),
    "joint/range": ("shift", "shrink"),
    "actuator/gain": ("factor",),
    "actuator/force_limit": ("factor",),
    "actuator/delay": ("seconds",),
    "actuator/scale": ("factor",),
    "actuator/offset": ("shift",),
    "geom/friction": ("factor",),
    "option/gravity": ("factor", "shift"),
    "option/density": ("factor",),
    "payload/mass": ("kg",),
    "sensor/position_bias": ("shift",),
    "sensor/delay": ("seconds",),
    **{f"fault/{kind}": ("factor",) for kind in FAULTS},
}
"""Quantity without the name of its element → units in which a range may be declared."""
WITHOUT_ELEMENT = ("option/gravity", "option/density", "sensor/delay")
FIXED_FAULTS = {"reversed": (1.0, 1.0), "dead": (0.0, 0.0)}
"""Faults that need no range of a factor."""
SIGNED_UNITS, LOG_UNITS = ("shift",), ("factor", "kg")
EXAMPLES = {
    "factor": "{factor: [0.8, 1.2]}",
    "shift": "{shift: [-0.1, 0.1]}",
    "shrink": "{shrink: [0.0, 0.1]}",
    "seconds": "{seconds: [0.0, 0.04]}",
    "kg": "{kg: [0.0, 0.3]}",
}
GRAVITY_EXAMPLE = "{shift: [[-0.5, 0.5], [-0.5, 0.5], [0.0, 0.0]]}"


@dataclass(frozen=True, kw_only=True)
class DeclaredRange:
    """Declared range: one entry of `randomize:`."""

    key: str
    """As in the spec, such as `joint/*/damping`."""
    quantity: str
    """Without the name of the element, such as `joint/damping`."""
    pattern: str
    """Name of the element, in which `*` stands for any letters; empty for a quantity of the whole robot."""
    unit: str
    value: Any
    """As in the spec, for errors."""
    bounds: tuple[tuple[float, float], ...]
    """Low and high: one pair, or three for a shift of gravity."""
    is_log: bool
    chance: float

    @property
    def element(self) -> str:
        return self.quantity.partition("/")[0]

    @property
    def fault(self) -> str:
        """Kind of fault; empty for a quantity of the model."""
        return self.quantity.partition("/")[2] if self.element == "fault" else ""

    @property
    def parameter_quantity(self) -> str:
        """Quantity, with its unit where that is not the only one."""
        has_choice = len(UNITS_OF_QUANTITY[self.quantity]) > 1
        return f"{self.quantity}/{self.unit}" if has_choice else self.quantity

    def matches(self, name: str) -> bool:
        parts = map(re.escape, self.pattern.split("*"))
        return re.fullmatch(".*".join(parts), name) is not None


def read_randomization(spec: RobotSpec) -> tuple[DeclaredRange, ...]:
    """Read the `randomize:` section of a spec, in the order of its keys.

    Raises:
        SpecError: If a key or a value is invalid.
    """
    try:
        # The order in a file does not matter: equal sections give equal draws.
        return tuple(_read_entry(key, spec.randomize[key]) for key in sorted(spec.randomize, key=str))
    except SpecError as error:
        raise SpecError(f"robot '{spec.name}': {error}") from error


def _read_entry(key: Any, value: Any) -> DeclaredRange:
    name = f"randomize '{key}'"
    quantity, pattern = _split_key(key)
    units = UNITS_OF_QUANTITY[quantity]
    fault = quantity.partition("/")[2] if quantity.startswith("fault/") else ""
    if isinstance(value, Mapping) and fault in FIXED_FAULTS and "factor" not in value:
        value = {**value, "factor": FIXED_FAULTS[fault]}
    examples = " or ".join(
        EXAMPLES[unit] for unit in units if quantity != "option/gravity" or unit != "shift"
    )
    examples += f" or {GRAVITY_EXAMPLE}" if quantity == "option/gravity" else ""
    given = [unit for unit in units if unit in value] if isinstance(value, Mapping) else []
    if len(given) != 1 or set(value) - {given[0], "log", "chance"}:
        raise SpecError(
            f"{name} is {value!r}; it must be such as {examples}, with log and chance if you like"
        )
    unit, is_log, chance = given[0], value.get("log", False), value.get("chance", 1.0)
    if type(is_log) is not bool or (is_log and unit not in LOG_UNITS):
        allowed = "true or false" if unit in LOG_UNITS else f"left out: a range of {unit} is drawn uniformly"
        raise SpecError(f"{name} has log {is_log!r}; it must be {allowed}")
    check_number(f"{name} chance", chance, high=1.0)
    if fault and "chance" not in value:
        raise SpecError(f"{name} has no chance; add the share of worlds with it, such as chance: 0.1")
    # A body that weighs nothing cannot be simulated.
    must_be_positive = is_log or quantity == "body/mass"
    low = -np.inf if unit in SIGNED_UNITS else 0.0
    ranges = value[unit] if quantity == "option/gravity" and unit == "shift" else [value[unit]]
    count = 3 if ranges is value[unit] else 1
    if not isinstance(ranges, list | tuple) or len(ranges) != count:
        raise SpecError(
            f"{name} is {value!r}; it must have a range for x, y and z, such as {GRAVITY_EXAMPLE}"
        )
    for each in ranges:
        check_range(f"{name} {unit}", each, must_be_positive=must_be_positive, low=low)
    bounds = tuple((float(low), float(high)) for low, high in ranges)
    nominal = 1.0 if unit == "factor" else 0.0
    if not fault and (not chance or all(pair == (nominal, nominal) for pair in bounds)):
        raise SpecError(f"{name} is {value!r}, which changes nothing. Widen it, or remove it")
    return DeclaredRange(
        key=key,
        quantity=quantity,
        pattern=pattern,
        unit=unit,
        value=value,
        bounds=bounds,
        is_log=is_log,
        chance=float(chance),
    )


def _split_key(key: Any) -> tuple[str, str]:
    """Return the quantity and the name of the element, or its pattern."""
    parts = key.split("/") if isinstance(key, str) else []
    if key in WITHOUT_ELEMENT:
        return key, ""
    quantity = f"{parts[0]}/{parts[-1]}" if len(parts) > 1 else ""
    if len(parts) > 2 and quantity in UNITS_OF_QUANTITY and quantity not in WITHOUT_ELEMENT:
        pattern = "/".join(parts[1:-1])
        if pattern:
            return quantity, pattern
    forms = [
        each if each in WITHOUT_ELEMENT else "/NAME/".join(each.split("/")) for each in UNITS_OF_QUANTITY
    ]
    named = f"{parts[0]}/NAME/{parts[-1]}" if len(parts) > 2 else str(key)
    close = get_close_matches(named, forms, n=1)
    guess = f"Did you mean '{close[0]}'? It" if close else "it"
    raise SpecError(f"randomize has key {key!r}; {guess} must be one of {forms}")


def find_nominal(name: str) -> float:
    """Return the nominal value of a parameter: 1 for a factor, 0 for a shift, a time or a mass."""
    return 1.0 if _is_factor(name) else 0.0


def _is_factor(name: str) -> bool:
    element, _, quantity = name.partition("/")
    last = quantity.rpartition("/")[2]
    return last == "factor" or UNITS_OF_QUANTITY.get(f"{element}/{last}") == ("factor",)


def scale_parameter(name: str, value: float | np.ndarray) -> np.ndarray:
    """Return the deviation of a parameter from its nominal value: of a factor the logarithm."""
    values = np.asarray(value, float)
    return np.log(np.maximum(values, 1e-3)) if _is_factor(name) else values


def check_parameter(name: str, value: Any) -> None:
    """Reject a value that a named parameter of a world cannot have."""
    last = name.rpartition("/")[2]
    is_signed = last in (*"xyz", "shift", "offset", "position_bias")
    check_number(f"world '{name}'", value, low=-np.inf if is_signed else 0.0)
    if name.startswith("body/") and value == 0:
        raise SpecError(f"world '{name}' is {value!r}; it must be above 0: a body weighs something")
