"""Base: the trained weights on disk with their config, robot spec and card.

Opening a base needs no torch; its `model` does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError
from wm_robot.io.base_file import CARD, FORMAT, KIND, WEIGHTS, check_base, compute_base_digest, find_base
from wm_robot.io.durable import compute_digest, write_file
from wm_robot.memory.registry import find_family
from wm_robot.spec import RobotSpec
from wm_robot.spec.sensor_difference import describe_sensor_difference, list_sensor_values

if TYPE_CHECKING:
    from wm_robot.model.world_model import WorldModel


@dataclass(frozen=True, kw_only=True)
class Base:
    """Base of all robots of one spec; immutable on the robot."""

    digest: str
    """SHA-256 of weights and config; a lifetime state is valid with one base only."""
    manifest: dict[str, Any]
    weights: bytes = field(repr=False)
    """Bytes of the weight file, checked against the manifest."""
    folder: str = ""
    """Folder, for error messages."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Plain values of the `ModelConfig`."""
        return dict(self.manifest["config"])

    @property
    def uses_privileged_state(self) -> bool:
        """Whether it is an oracle; see `WorldModel.uses_privileged_state`."""
        return find_family(self.config["memory"]).uses_privileged_state

    @cached_property
    def model(self) -> "WorldModel":
        """World model, created at first use.

        Raises:
            MissingExtraError: If torch is not installed.
            SnapshotError: If the weights do not fit the model of this version.
        """
        try:
            from safetensors.torch import load

            from wm_robot.model.config import ModelConfig
            from wm_robot.model.world_model import WorldModel
        except ModuleNotFoundError as error:
            raise MissingExtraError("the model of a base", "learn") from error
        try:
            model = WorldModel(ModelConfig.from_dict(self.config))
            model.load_state_dict(load(self.weights))
        except (TypeError, RuntimeError, ConfigError) as error:
            raise SnapshotError(
                f"base in {self.folder} does not fit the model of this version. Train it again: "
                f"wm-robot train {self.manifest['robot']}"
            ) from error
        return model.eval().requires_grad_(False)

    def check_spec(self, spec: RobotSpec) -> None:
        """Check that the base was trained for a robot.

        Raises:
            SnapshotError: If the digests differ.
        """
        if spec.compute_digest() != self.manifest["spec_digest"]:
            difference = describe_sensor_difference(self.manifest.get("sensors", ()), spec, "the base")
            raise SnapshotError(
                f"base {self.digest[:12]} was trained for robot '{self.manifest['robot']}' "
                f"({self.manifest['spec_digest'][:12]}); this robot is '{spec.name}' ({spec.compute_digest()[:12]})"
                + (f": {difference}" if difference else "")
                + f". Train a base for it: wm-robot train {spec.name}"
            )


def save_base(folder: Path, model: "WorldModel", spec: RobotSpec, card: dict[str, Any]) -> str:
    """Write a base and return its digest.

    Args:
        card: Training and results of the base; plain values.
    """
    from safetensors.torch import save

    weights = save({name: value.contiguous() for name, value in model.state_dict().items()})
    config = model.config.to_dict()
    manifest = {
        "format": FORMAT,
        "kind": KIND,
        "robot": spec.name,
        "spec_digest": spec.compute_digest(),
        "sensors": list_sensor_values(spec),
        "config": config,
        "weights_sha256": compute_digest(weights),
        "digest": compute_base_digest(config, compute_digest(weights)),
        "card": card,
    }
    write_file(folder / WEIGHTS, weights)
    write_file(folder / CARD, json.dumps(manifest, indent=1, allow_nan=False).encode())
    return str(manifest["digest"])


def load_base(folder: str | Path) -> Base:
    """Read a base; its bytes are checked before they are parsed.

    Args:
        folder: Folder, or the name of a shipped base; see `find_base`.

    Raises:
        SnapshotError: If a file is missing, damaged or of another format.
    """
    folder = find_base(folder)
    try:
        card, weights = ((folder / name).read_bytes() for name in (CARD, WEIGHTS))
    except OSError as error:
        raise SnapshotError(f"base in {folder} cannot be read: {error}. Fetch it again") from error
    manifest = check_base(card, weights, str(folder))
    return Base(digest=manifest["digest"], manifest=manifest, weights=weights, folder=str(folder))
