"""A trained base on disk: weights, config, the robot it was trained for, and its card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.io.durable import digest, write_file
from wm_robot.models.world_model import ModelConfig, WorldModel
from wm_robot.spec import RobotSpec, canonical_json

FORMAT = 1


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
        "kind": "base",
        "robot": spec.name,
        "spec_digest": spec.digest(),
        "config": config,
        "weights_sha256": digest(weights),
        "digest": _digest(weights, config),
        "card": card,
    }
    write_file(folder / "weights.safetensors", weights)
    write_file(folder / "base.json", json.dumps(manifest, indent=1, allow_nan=False).encode())
    return str(manifest["digest"])


def load_base(folder: str | Path) -> Base:
    """Read a base; its bytes are checked before they are parsed.

    Raises:
        SnapshotError: If a file is missing, damaged or of another format.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "base.json").read_bytes())
        weights = (folder / "weights.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise SnapshotError(f"no base in {folder}: {error}. Train one: wm-robot train") from error
    try:
        version, found = manifest["format"], (manifest["weights_sha256"], manifest["digest"])
        known = (digest(weights), _digest(weights, manifest["config"]))
    except (KeyError, TypeError) as error:
        raise SnapshotError(
            f"{folder / 'base.json'} is no card of a base: {error}. Fetch it again"
        ) from error
    if version != FORMAT:
        raise SnapshotError(
            f"base in {folder} has format {version}, this version reads {FORMAT}. "
            "Use the version that made it, or train it again: wm-robot train"
        )
    if found != known:
        raise SnapshotError(f"base in {folder} is damaged: its SHA-256 is not the manifest's. Fetch it again")
    try:
        model = WorldModel(ModelConfig.from_dict(manifest["config"]))
        model.load_state_dict(load(weights))
    except (TypeError, RuntimeError, ConfigError) as error:
        raise SnapshotError(
            f"base in {folder} is of another shape than this version's model. Train it again: wm-robot train"
        ) from error
    return Base(model=model.eval().requires_grad_(False), digest=manifest["digest"], manifest=manifest)


def _digest(weights: bytes, config: dict[str, Any]) -> str:
    return digest(canonical_json({"config": config, "weights": digest(weights)}))
