"""Damaged bases: copies of a base with one fault in their weights, which a validation must refuse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from wm_robot.spec import RobotSpec

STALE_FACTOR = 8.0
"""Factor on a scale that is stale."""
HEAD = "output_head.1"
"""Layer whose first rows are the change of each channel."""
SKIP = "linear_skip.weight"
NETWORKS = ("", "frozen.")
"""Prefixes of the networks that a base may hold."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Damage of a base."""

    kind: str
    """`zeroed layer`, `exchanged joints`, `stale scale` or `noise`."""
    what: str
    """Layer, pair of joints, channel, or size of the noise."""

    @property
    def name(self) -> str:
        """Name for tables."""
        return f"{self.kind}: {self.what}"


def list_damages(spec: "RobotSpec", tensors: Mapping[str, "torch.Tensor"]) -> Iterator[Damage]:
    """List the damages of a base: each layer, each pair of joints, each channel, and noise of some sizes."""
    for name, value in tensors.items():
        if value.ndim > 1 and name.endswith("weight") and "physics_head" not in name:
            yield Damage(kind="zeroed layer", what=name)
    names = spec.joint_names
    for first in range(len(names)):
        for second in range(first + 1, len(names)):
            yield Damage(kind="exchanged joints", what=f"{names[first]}, {names[second]}")
    for channel in spec.observation_names:
        yield Damage(kind="stale scale", what=channel)
    for size in ("0.3", "1"):
        yield Damage(kind="noise", what=size)


def damage_base(source: Path, folder: Path, spec: "RobotSpec", damage: Damage, *, seed: int = 0) -> None:
    """Write a copy of a base with a damage. It has no ONNX models: its agents plan in torch."""
    import torch

    from wm_robot.model.base import load_base, save_base

    base = load_base(source)
    model = base.model
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    if damage.kind == "zeroed layer":
        tensors[damage.what].zero_()
    elif damage.kind == "exchanged joints":
        _exchange_joints(spec, tensors, *damage.what.split(", "))
    elif damage.kind == "stale scale":
        channel = spec.observation_names.index(damage.what)
        for prefix in NETWORKS:
            if f"{prefix}change_std" in tensors:
                tensors[f"{prefix}change_std"][channel] *= STALE_FACTOR
    elif damage.kind == "noise":
        rng = np.random.default_rng(seed)
        for name, value in tensors.items():
            if name.endswith("weight") and value.ndim > 1:
                noise = torch.from_numpy(rng.standard_normal(tuple(value.shape)).astype(np.float32))
                value += float(damage.what) * value.std() * noise
    else:
        raise ValueError(f"damage is '{damage.kind}'; see list_damages")
    model.load_state_dict(tensors)
    save_base(folder, model, spec, {**base.manifest["card"], "damage": damage.name})


def _exchange_joints(spec: "RobotSpec", tensors: dict[str, "torch.Tensor"], first: str, second: str) -> None:
    """Exchange what the networks predict of two joints."""
    names = list(spec.observation_names)
    pairs = [(names.index(f"{first}/{kind}"), names.index(f"{second}/{kind}")) for kind in spec.interfaces]
    for prefix in NETWORKS:
        for name in (f"{prefix}{HEAD}.weight", f"{prefix}{HEAD}.bias", f"{prefix}{SKIP}"):
            if name in tensors:
                for one, other in pairs:
                    tensors[name][[one, other]] = tensors[name][[other, one]]
