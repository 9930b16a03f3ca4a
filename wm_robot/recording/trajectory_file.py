"""Trajectory file: a batch of trajectories in one safetensors file, with the recipe that collected them."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.io.durable import compute_digest, lock_exclusive, make_folder, write_file
from wm_robot.types import TrajectoryBatch


def save_trajectories(path: Path, trajectories: TrajectoryBatch, recipe: Mapping[str, Any]) -> None:
    """Write a trajectory batch, whole or not at all.

    Args:
        recipe: Settings of the collection; plain values.
    """
    tensors = {name: getattr(trajectories, name) for name in trajectories.__dataclass_fields__}
    write_file(path, save(tensors, {"recipe": json.dumps(recipe)}))


def load_trajectories(path: Path, recipe: Mapping[str, Any]) -> TrajectoryBatch:
    """Read a trajectory batch.

    Args:
        recipe: Settings with which it must have been collected.

    Raises:
        SnapshotError: If the file holds no trajectories, or they were collected with other settings.
    """
    reason = describe_mismatch(path, recipe)
    if reason is None:
        try:
            return TrajectoryBatch(**load_file(path))
        except (OSError, SafetensorError, TypeError, SpecError) as error:
            reason = f"{path} holds no trajectories: {error}"
    raise SnapshotError(f"{reason}. Use another folder, or delete the file to collect them again")


def load_or_collect(
    path: Path, recipe: Mapping[str, Any], collect: Callable[[], TrajectoryBatch]
) -> tuple[TrajectoryBatch, str]:
    """Load a trajectory file, or collect and write it; return the trajectories and the digest of the file."""
    # Checked before locking: another training may hold the lock for minutes, to collect a later round.
    make_folder(path.parent)
    with nullcontext() if path.exists() else lock_exclusive(path.parent / ".lock"):
        if not path.exists():
            save_trajectories(path, collect(), recipe)
    return load_trajectories(path, recipe), compute_digest(path.read_bytes())


def describe_mismatch(path: Path, recipe: Mapping[str, Any]) -> str | None:
    """Return why a file does not match a recipe; None if it does. The trajectories are not read."""
    try:
        with safe_open(path, framework="numpy") as file:
            found = dict(json.loads((file.metadata() or {})["recipe"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        return f"{path} holds no trajectories: {error}"
    wanted = json.loads(json.dumps(recipe))
    changed = sorted(k for k in {**found, **wanted} if found.get(k) != wanted.get(k))
    differences = ", ".join(f"{k} {found.get(k)} instead of {wanted.get(k)}" for k in changed)
    return f"{path} was collected with {differences}" if changed else None
