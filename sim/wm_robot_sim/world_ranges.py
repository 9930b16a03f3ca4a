"""World ranges: the `world:` section of a spec, and the checks of its values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec

FAULTS = ("weak", "limited", "reversed", "sticky", "dead")
LOG_UNIFORM_RANGES = ("mass", "gain", "torque", "friction", "damping")
"""Ranges of factors that are drawn log-uniformly."""
RANGE_FIELDS = (*LOG_UNIFORM_RANGES, "payload", "delay")
INTEGER_FIELDS = ("delay", "sensor_delay")
"""Fields that count physics steps."""
NOISES = ("position_noise", "velocity_noise", "effort_noise")


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
    effort_noise: float = 0.0
    """Standard deviation, as a share of the largest effort of each joint."""
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
            check_range(
                f"world.{name}",
                getattr(self, name),
                must_be_positive=name in LOG_UNIFORM_RANGES,
                is_integer=name in INTEGER_FIELDS,
            )
        for name in ("bias", "tilt", *NOISES, "sensor_delay", "timestep"):
            check_number(f"world.{name}", getattr(self, name), is_integer=name in INTEGER_FIELDS)
        check_number("world.payload_chance", self.payload_chance, high=1.0)
        if self.clearance != -np.inf:
            check_number("world.clearance", self.clearance, low=-np.inf)
        if not isinstance(self.payload_body, str):
            raise SpecError(f"world.payload_body is {self.payload_body!r}; it must be the name of a body")
        check_numbers("world.pose_center", self.pose_center, low=-np.inf)
        check_numbers("world.pose_spread", self.pose_spread)
        self._check_faults()

    def _check_faults(self) -> None:
        check_numbers("world.fault_counts", self.fault_counts, high=1.0)
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
            check_range(f"{name}.range", fault.get("range"), must_be_positive=False)
            check_number(f"{name}.chance", fault.get("chance"))
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
            reject_unknown_fields(cls, spec.world)
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


def check_range(
    name: str, bounds: Any, *, must_be_positive: bool, is_integer: bool = False, low: float = 0.0
) -> None:
    """Reject a value that is no range.

    Args:
        must_be_positive: Whether the numbers must be above 0, instead of at least `low`.
    """
    pair = tuple(bounds) if isinstance(bounds, list | tuple) else ()
    fits = len(pair) == 2 and all(is_number_of_kind(x, is_integer=is_integer) for x in pair)
    if not fits or not low <= pair[0] <= pair[1] or (must_be_positive and pair[0] <= 0):
        numbers = "two whole numbers" if is_integer else "two numbers"
        example = "[0, 3]" if is_integer else "[0.5, 1.5]"
        start = " above 0," if must_be_positive else " from 0," if low == 0 else ""
        expected = f"{numbers}, low and high,{start} such as {example}"
        raise SpecError(f"{name} is {bounds!r}; it must be {expected}{describe_yaml_numbers(bounds)}")


def check_numbers(name: str, values: Any, *, low: float = 0.0, high: float = np.inf) -> None:
    """Reject a value that is no list of numbers between two bounds."""
    if not isinstance(values, list | tuple):
        raise SpecError(f"{name} is {values!r}; it must be a list of numbers")
    for number, value in enumerate(values):
        check_number(f"{name}[{number}]", value, low=low, high=high)


def check_number(
    name: str, value: Any, *, low: float = 0.0, high: float = np.inf, is_integer: bool = False
) -> None:
    """Reject a value that is no finite number between two bounds."""
    if not is_number_of_kind(value, is_integer=is_integer) or not low <= value <= high:
        bounds = (
            "" if low == -np.inf else f", not below {low:g}" + (f" and not above {high:g}") * (high < np.inf)
        )
        kind = "a whole number" if is_integer else "a number"
        raise SpecError(f"{name} is {value!r}; it must be {kind}{bounds}{describe_yaml_numbers(value)}")


def is_number_of_kind(value: Any, *, is_integer: bool) -> bool:
    # A boolean is an integer in Python.
    is_kind = type(value) is not bool and isinstance(value, Integral if is_integer else Real)
    try:
        return is_kind and math.isfinite(value)
    except OverflowError:
        return False


def describe_yaml_numbers(value: Any) -> str:
    """Return a hint for numbers that YAML reads as text; empty where there is none."""
    parts = value if isinstance(value, list | tuple) else [value]
    texts = [part for part in parts if isinstance(part, str)]
    return ". YAML reads it as text: write it without quotes, and 1e-3 as 1.0e-3" if texts else ""


def reject_unknown_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Reject a key that is no field of a world or of its ranges."""
    known = sorted(f.name for f in fields(kind))
    unknown = sorted(map(str, set(values) - set(known)))
    if unknown:
        close = get_close_matches(unknown[0], known, n=1)
        guess = f"Did you mean '{close[0]}'? It" if close else "it"
        raise SpecError(f"world has no field {unknown}; {guess} has {known}")
