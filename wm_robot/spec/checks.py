"""Checks of the values of a spec, and its sections built from plain values."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

from wm_robot.errors import SpecError


def require_valid(condition: bool, finding: str, expected: str) -> None:
    if not condition:
        raise SpecError(f"{finding}; it must be {expected}")


def check_value(value: Any, hint: Any, what: str) -> None:
    """Refuse a value that is not of the kind of its field; kinds other than text and numbers are not checked.

    Args:
        hint: Type of the field: `str`, `bool`, `float`, `int`, or a tuple of so many floats.
        what: The value, for the error.
    """
    shown = list(value) if isinstance(value, tuple) else value
    if hint is str:
        require_valid(
            isinstance(value, str), f"{what} is {shown!r}", f"text; in YAML, write it in quotes: '{value}'"
        )
    elif hint is bool:
        require_valid(isinstance(value, bool), f"{what} is {shown!r}", "true or false")
    elif hint in (float, int):
        require_valid(is_number(value), f"{what} is {shown!r}", "a finite number")
    elif get_origin(hint) is tuple and set(get_args(hint)) == {float}:
        numbers, count = value if isinstance(value, tuple) else (), len(get_args(hint))
        fits = len(numbers) == count and all(map(is_number, numbers))
        require_valid(fits, f"{what} is {shown!r}", f"{count} finite numbers")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_list(values: Any, what: str, of: str) -> None:
    """Refuse a value that is no list."""
    require_valid(isinstance(values, list | tuple), f"{what} is {values!r}", f"a list of {of}")


def require_mapping(values: Any, what: str, example: str) -> None:
    """Refuse a value that is no mapping."""
    require_valid(
        isinstance(values, Mapping), f"{what} is {values!r}", f"a mapping, as {example}, or left out"
    )


def build_section(kind: type, values: Any) -> Any:
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
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    hints = get_type_hints(kind)
    for name, value in given.items():
        check_value(value, hints[name], f"{name} of {whose}")
    try:
        return kind(**given)
    except TypeError as error:
        raise SpecError(f"{whose}: {error}") from error
