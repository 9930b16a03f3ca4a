"""JSON from strangers: no key twice, no number that is none, and where the text is ours, one spelling."""

import json
import math
from collections.abc import Sequence
from typing import Any

from wm_robot.errors import SnapshotError
from wm_robot.spec import canonical_json


def read_json(content: bytes, what: str) -> Any:
    """The values of a JSON text.

    Args:
        what: It is, for the error.

    Raises:
        SnapshotError: If it is not JSON, names a key twice, or holds a number that is not finite.
    """
    try:
        return json.loads(
            content.decode(), object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"{what} is not JSON that can be trusted: {error}") from error


def read_canonical(content: bytes, what: str) -> Any:
    """The values of a JSON text in its one spelling; see `canonical_json`.

    Raises:
        SnapshotError: If it is not JSON, or spelt in another way.
    """
    values = read_json(content, what)
    try:
        spelt = canonical_json(values)
    except RecursionError as error:
        raise SnapshotError(f"{what} is nested too deep") from error
    if spelt != content:
        raise SnapshotError(f"{what} is not in canonical form: sorted keys, no spaces, no second spelling")
    return values


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError(f"one of the keys {sorted(values)!r:.100} stands there twice")
    return values


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.20} is no finite number")
    return value
