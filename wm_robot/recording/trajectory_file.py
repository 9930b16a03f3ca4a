"""Lives on disk: one safetensors file, with how they were gathered."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.io.durable import write_file
from wm_robot.types import Lives


def save_lives(path: Path, lives: Lives, recipe: Mapping[str, Any]) -> None:
    """Write lives, whole or not at all.

    Args:
        recipe: How they were gathered; plain values.
    """
    tensors = {name: getattr(lives, name) for name in lives.__dataclass_fields__}
    write_file(path, save(tensors, {"recipe": json.dumps(recipe)}))


def load_lives(path: Path, recipe: Mapping[str, Any]) -> Lives:
    """Read lives.

    Args:
        recipe: How they must have been gathered.

    Raises:
        SnapshotError: If the file does not hold lives, or they were gathered in another way.
    """
    reason = describe_mismatch(path, recipe)
    if reason is None:
        try:
            return Lives(**load_file(path))
        except (OSError, SafetensorError, TypeError, SpecError) as error:
            reason = f"{path} does not hold lives: {error}"
    raise SnapshotError(f"{reason}. Use another folder of lives, or delete the file and gather again")


def describe_mismatch(path: Path, recipe: Mapping[str, Any]) -> str | None:
    """Why a file does not hold the lives of a recipe; None where it does. The lives themselves are not read."""
    try:
        with safe_open(path, framework="numpy") as file:
            found = dict(json.loads((file.metadata() or {})["recipe"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        return f"{path} does not hold lives: {error}"
    wanted = json.loads(json.dumps(recipe))
    changed = sorted(k for k in {**found, **wanted} if found.get(k) != wanted.get(k))
    told = ", ".join(f"{k} {found.get(k)} instead of {wanted.get(k)}" for k in changed)
    return f"{path} was gathered with {told}" if changed else None
