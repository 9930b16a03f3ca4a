"""A life out of a store, to be lived on beside the robot, and back into it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from wm_robot.adaptation.context_bank import has_bank
from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.agent import backends
from wm_robot.agent.onnx_files import load_graphs
from wm_robot.memory.memory import State
from wm_robot.model.backend import Lives
from wm_robot.model.base import Base
from wm_robot.model.torch_backend import TensorWrites
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store


def state_of(store: Store, reference: str, base: Base, spec: RobotSpec) -> State:
    """A saved life, whole.

    Raises:
        SnapshotError: If it is missing, damaged, or another base's or robot's.
    """
    arrays = store.load(reference, base_digest=base.digest, spec_digest=spec.digest())
    saved = {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
    # A life saved before there were residuals has none.
    born = base.model.birth(1, hold=torch.zeros(1, base.model.config.action))
    return (TensorRecall(base.model).birth(born) if has_bank(saved) else born) | saved


def steps_of(folder: Path, base: Base) -> Lives:
    """What lives step by step: the graphs where they are there, as on the robot; otherwise the model."""
    return backends.lives_of(base, load_graphs(folder, base))


def lives_of(state: State, steps: Lives) -> TensorRecall | TensorWrites:
    """What lives this life: with recall where it has a bank."""
    return TensorRecall(steps) if has_bank(state) else TensorWrites(steps)


def keep(
    store: Store,
    branch: str,
    state: State,
    base: Base,
    spec: RobotSpec,
    parents: Sequence[str],
    note: str,
    metrics: Mapping[str, float],
) -> str:
    """Save it; returns the snapshot's digest. See `Store.save`."""
    return store.save(
        {name: value.contiguous().numpy() for name, value in state.items()},
        base_digest=base.digest,
        spec_digest=spec.digest(),
        branch=branch,
        parents=parents,
        metrics=metrics,
        note=note,
    ).digest
