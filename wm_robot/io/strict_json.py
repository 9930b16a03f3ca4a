"""Strict JSON for untrusted input: unique keys, finite numbers, and for signed text one canonical form."""

import json
import math
from collections.abc import Sequence
from typing import Any

from wm_robot.errors import SnapshotError
from wm_robot.spec import encode_canonical_json


def parse_json(content: bytes, what: str) -> Any:
    """Return the values of a JSON text.

    Args:
        what: Name of the text, for the error.

    Raises:
        SnapshotError: If it is not JSON, names a key twice, or holds a number that is not finite.
    """
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_make_unique,
            parse_float=_parse_finite,
            parse_constant=_parse_finite,
        )
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"{what} is not valid JSON: {error}") from error


def parse_canonical_json(content: bytes, what: str) -> Any:
    """Return the values of a JSON text in canonical form; see `encode_canonical_json`.

    Raises:
        SnapshotError: If it is not JSON, or has another form.
    """
    values = parse_json(content, what)
    try:
        canonical = encode_canonical_json(values)
    except RecursionError as error:
        raise SnapshotError(f"{what} is nested too deep") from error
    if canonical != content:
        raise SnapshotError(f"{what} is not in canonical form: sorted keys, no spaces")
    return values


def _make_unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError(f"one of the keys {sorted(values)!r:.100} occurs twice")
    return values


def _parse_finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.20} is not a finite number")
    return value
