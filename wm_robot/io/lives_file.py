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
    try:
        with safe_open(path, framework="numpy") as file:
            found = json.loads((file.metadata() or {})["recipe"])
        lives = Lives(**load_file(path))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, SpecError) as error:
        raise SnapshotError(
            f"{path} does not hold lives: {error}. Delete it; it is gathered again"
        ) from error
    wanted = json.loads(json.dumps(recipe))
    if found != wanted:
        changed = sorted(k for k in {**found, **wanted} if found.get(k) != wanted.get(k))
        told = ", ".join(f"{k} {found.get(k)} instead of {wanted.get(k)}" for k in changed)
        raise SnapshotError(f"{path} was gathered with {told}. Name another folder of lives, or delete it")
    return lives
