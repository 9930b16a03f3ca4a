"""Saved lifetime: loads a lifetime state from a store for offline updates, and saves it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.agent import backends
from wm_robot.agent.onnx_files import load_functions
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.model.base import Base
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store


def load_lifetime_state(store: Store, reference: str, base: Base, spec: RobotSpec) -> ArrayState:
    """Load a saved lifetime state with all its parts.

    Raises:
        SnapshotError: If it is missing, damaged, or of another base or robot.
    """
    arrays = store.load(reference, base_digest=base.digest, spec_digest=spec.compute_digest())
    # Parts that were not saved are those of the initial state.
    born = backends.select_model_backend(base, None).initial_state(
        initial_action=np.zeros((1, base.config["action"]), np.float32)
    )
    return LifetimeState.unflatten(born.flatten() | {name: value.copy() for name, value in arrays.items()})


def load_model_backend(folder: Path, base: Base) -> ModelBackend[np.ndarray]:
    """Select the model backend as on the robot: ONNX where available, else torch."""
    return backends.select_model_backend(base, load_functions(folder, base))


def save_lifetime_state(
    store: Store,
    branch: str,
    state: ArrayState,
    base: Base,
    spec: RobotSpec,
    parents: Sequence[str],
    note: str,
    metrics: Mapping[str, float],
    origin: Mapping[str, Any] | None = None,
) -> str:
    """Save a lifetime state; return the snapshot's digest. See `Store.save`."""
    return store.save(
        {name: np.ascontiguousarray(value) for name, value in state.flatten().items()},
        base_digest=base.digest,
        spec_digest=spec.compute_digest(),
        branch=branch,
        parents=parents,
        metrics=metrics,
        note=note,
        origin=origin,
    ).digest
