"""Battery: the checks of a validation, read from YAML. `read_battery_digest` is its version."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from wm_robot.errors import SpecError
from wm_robot.validation_record.installation import BATTERY_SUFFIX, DEFAULT_BATTERY

VERSION = 1
Severity = Literal["critical", "major", "minor"]
Measure = Literal["model", "bundle", "prediction", "control", "learning", "resume", "timing"]
EPISODE_MEASURES = ("prediction", "control", "learning")
"""Measures that run episodes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """Check of a battery: what is measured, the pass line, and what to do if it fails."""

    name: str
    group: str
    measure: Measure
    severity: Severity
    """`critical` and `major`: a failure refuses the bundle. `minor`: it is reported."""
    mandatory: bool = False
    """It cannot be skipped: without its result there is no verdict `passed`."""
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Figure → least and largest value that pass; None: no bound."""
    remedy: str = ""
    """What to do if it fails, a sentence."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Worlds, inputs and sizes of the measure."""
    quick: Mapping[str, Any] | None = None
    """Settings that differ in `--quick`; None: the check is not part of it."""

    def __post_init__(self) -> None:
        for name, allowed in (("measure", Measure), ("severity", Severity)):
            value = getattr(self, name)
            if value not in get_args(allowed):
                raise SpecError(
                    f"{name} of check '{self.name}' is {value!r}; it must be one of {list(get_args(allowed))}"
                )

    def describe_limits(self) -> str:
        """Describe the pass line: `settled at most 2; coverage 0.5 to 0.9`."""
        return "; ".join(f"{name} {_describe_bounds(*bounds)}" for name, bounds in self.limits.items())

    def find_violations(self, figures: Mapping[str, float]) -> list[str]:
        """Return a sentence for each figure outside its limits. A figure that is missing or no number is outside."""
        found = []
        for name, (low, high) in self.limits.items():
            value = figures.get(name)
            if value is None or value != value:
                found.append(f"{name} was not measured; it must be {_describe_bounds(low, high)}")
            elif (low is not None and value < low) or (high is not None and value > high):
                found.append(f"{name} is {value:.3g}; it must be {_describe_bounds(low, high)}")
        return found


@dataclass(frozen=True, kw_only=True)
class Battery:
    """Battery of checks."""

    checks: tuple[Check, ...]
    name: str = ""

    def find_check(self, name: str) -> Check:
        """Return a check by name.

        Raises:
            SpecError: If there is none; the error lists those there are.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise SpecError(f"no check '{name}'; there are {[check.name for check in self.checks]}")

    @classmethod
    def load(cls, robot: str, folder: Path | None = None) -> "Battery":
        """Read the battery of a robot: the default one, with the changes of `ROBOT.battery.yaml` beside its spec.

        Args:
            folder: Folder of the robot's spec; None: no changes.

        Raises:
            SpecError: If a check is not valid.
        """
        checks = _read_checks(DEFAULT_BATTERY)
        own = folder / f"{robot}{BATTERY_SUFFIX}" if folder else None
        if own is not None and own.is_file():
            checks = _apply_changes(checks, _read_checks(own), own)
        return cls(
            name=robot, checks=tuple(_build_check(values, own or DEFAULT_BATTERY) for values in checks)
        )


def _read_checks(path: Path) -> list[dict[str, Any]]:
    try:
        values = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise SpecError(f"battery {path} cannot be read: {error}") from error
    if not isinstance(values, Mapping) or values.get("version") != VERSION:
        raise SpecError(f"battery {path} must have `version: {VERSION}` and `checks:`")
    checks = values.get("checks")
    if not isinstance(checks, list) or not all(isinstance(each, dict) and "name" in each for each in checks):
        raise SpecError(f"`checks` of battery {path} must be a list of checks, each with a name")
    return checks


def _apply_changes(
    checks: list[dict[str, Any]], changes: list[dict[str, Any]], path: Path
) -> list[dict[str, Any]]:
    """Change checks by name, one level deep, and append new ones.

    Raises:
        SpecError: If a change makes a mandatory check optional.
    """
    found = {each["name"]: dict(each) for each in checks}
    for change in changes:
        before = found.setdefault(change["name"], {})
        if before.get("mandatory") and change.get("mandatory") is False:
            raise SpecError(f"check '{change['name']}' is mandatory; {path} cannot change that")
        for key, value in change.items():
            old = before.get(key)
            before[key] = (
                {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
            )
    return list(found.values())


def _build_check(values: Mapping[str, Any], path: Path) -> Check:
    known = {each.name for each in fields(Check)}
    if unknown := sorted(set(values) - known):
        raise SpecError(f"check '{values['name']}' of {path} has {unknown}; it may have {sorted(known)}")
    limits = {}
    for name, bounds in (values.get("limits") or {}).items():
        if not isinstance(bounds, list) or len(bounds) != 2:
            raise SpecError(f"limit {name} of check '{values['name']}' is {bounds!r}; it must be [low, high]")
        limits[name] = (bounds[0], bounds[1])
    try:
        return Check(**{**values, "limits": limits})
    except TypeError as error:
        raise SpecError(f"check '{values['name']}' of {path} is not complete: {error}") from error


def _describe_bounds(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
