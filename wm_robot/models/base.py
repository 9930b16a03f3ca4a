"""A trained base on disk: weights, config, the robot it was trained for, and its card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.io.base_file import CARD, FORMAT, KIND, WEIGHTS, base_digest, check_base
from wm_robot.io.durable import digest, write_file
from wm_robot.models.world_model import ModelConfig, WorldModel
from wm_robot.spec import RobotSpec


@dataclass(frozen=True, kw_only=True)
class Base:
    """What every robot of one spec shares, and no robot changes."""

    model: WorldModel
    digest: str
    """SHA-256 of weights and config: a lifetime state is valid with this base alone."""
    manifest: dict[str, Any]

    def check_spec(self, spec: RobotSpec) -> None:
        """Refuse a robot that the base was not trained for.

        Raises:
            SnapshotError: If the digests differ.
        """
        if spec.digest() != self.manifest["spec_digest"]:
            raise SnapshotError(
                f"base {self.digest[:12]} was trained for robot '{self.manifest['robot']}' "
                f"({self.manifest['spec_digest'][:12]}); this robot is '{spec.name}' ({spec.digest()[:12]}). "
                "Train a base for it: wm-robot train"
            )


def save_base(folder: Path, model: WorldModel, spec: RobotSpec, card: dict[str, Any]) -> str:
    """Write a base and return its digest.

    Args:
        card: How it was made and what it reaches; plain values.
    """
    weights = save({name: value.contiguous() for name, value in model.state_dict().items()})
    config = model.config.to_dict()
    manifest = {
        "format": FORMAT,
        "kind": KIND,
        "robot": spec.name,
        "spec_digest": spec.digest(),
        "config": config,
        "weights_sha256": digest(weights),
        "digest": base_digest(config, digest(weights)),
        "card": card,
    }
    write_file(folder / WEIGHTS, weights)
    write_file(folder / CARD, json.dumps(manifest, indent=1, allow_nan=False).encode())
    return str(manifest["digest"])


def load_base(folder: str | Path) -> Base:
    """Read a base; its bytes are checked before they are parsed.

    Raises:
        SnapshotError: If a file is missing, damaged or of another format.
    """
    folder = Path(folder)
    try:
        card, weights = ((folder / name).read_bytes() for name in (CARD, WEIGHTS))
    except OSError as error:
        raise SnapshotError(f"no base in {folder}: {error}. Train one: wm-robot train") from error
    manifest = check_base(card, weights, str(folder))
    try:
        model = WorldModel(ModelConfig.from_dict(manifest["config"]))
        model.load_state_dict(load(weights))
    except (TypeError, RuntimeError, ConfigError) as error:
        raise SnapshotError(
            f"base in {folder} is of another shape than this version's model. Train it again: wm-robot train"
        ) from error
    return Base(model=model.eval().requires_grad_(False), digest=manifest["digest"], manifest=manifest)
