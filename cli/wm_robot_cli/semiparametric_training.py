"""Training of a semiparametric base: its network of physics, its frozen network, and the correction."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError

if TYPE_CHECKING:
    from wm_robot.model.base import Base
    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel
    from wm_robot_cli.trajectory_collector import TrajectoryCollector

PHYSICS_MEMORY, FROZEN_MEMORY = "ekf", "null"
"""Memory families of the two networks when they are trained alone."""


def find_started(bases: "Sequence[Base]", memory: str) -> "Base | None":
    """Find the base of a family among those to start from."""
    return next((base for base in bases if base.config["memory"] == memory), None)


def check_started(bases: "Sequence[Base]") -> None:
    """Check that the bases to start from are of the families of the two networks.

    Raises:
        ConfigError: If one is of another family, or both of one.
    """
    families = [base.config["memory"] for base in bases]
    known = {PHYSICS_MEMORY, FROZEN_MEMORY}
    if not known.issuperset(families) or len(set(families)) < len(families):
        raise ConfigError(
            f"start has bases of the memories {families}; a semiparametric base starts from one of "
            f"'{PHYSICS_MEMORY}', one of '{FROZEN_MEMORY}' (variant robust), or both"
        )


def join_networks(
    shape: "ModelConfig", physics: "WorldModel", frozen: "WorldModel", *, seed: int
) -> "WorldModel":
    """Make the model of two trained networks, with an untrained correction.

    Args:
        shape: Its config.

    Raises:
        ConfigError: If one network is of another robot or size.
    """
    import torch

    from wm_robot.model.world_model import WorldModel

    for network, memory in ((physics, PHYSICS_MEMORY), (frozen, FROZEN_MEMORY)):
        if network.config != replace(shape, memory=memory):
            raise ConfigError(
                f"start has a base of another robot or size: {network.config} in place of "
                f"{replace(shape, memory=memory)}. Leave it out, to train that network here"
            )
    torch.manual_seed(seed)
    model = WorldModel(shape)
    assert model.frozen is not None
    unknown = model.load_state_dict(physics.state_dict(), strict=False).unexpected_keys
    assert not unknown, unknown
    model.frozen.load_state_dict(frozen.state_dict())
    return model.eval().requires_grad_(False)


def train_correction(
    model: "WorldModel", collector: "TrajectoryCollector", data: Path, *, updates: int, seed: int
) -> dict[str, Any]:
    """Train the correction on trajectories with undeclared effects; return its part of the card."""
    from dataclasses import asdict

    from wm_robot.recording.trajectory_file import load_or_collect
    from wm_robot.training.correction_fit import CorrectionConfig, fit_correction
    from wm_robot.training.trainer import EFFECTS_FILE

    config = CorrectionConfig(updates=updates, seed=seed)
    batch, digest = load_or_collect(
        data / EFFECTS_FILE, collector.describe_effects(), collector.collect_effects
    )
    curve: list[dict[str, float]] = []
    for metrics in fit_correction(model, batch, config):
        if "lived" in metrics:
            print(f"correction: {metrics['lived']:.0f} trajectories lived, round {metrics['round'] + 1:.0f}")
        elif metrics["update"] % 50 == 0 or metrics["update"] == updates:
            curve.append(metrics)
            print(
                f"correction: {metrics['update']:.0f}/{config.updates}  surprise {metrics['surprise']:.3f} nats  "
                f"error {metrics['error']:.4f}",
                flush=True,
            )
    return {"train": asdict(config), "data_sha256": {EFFECTS_FILE: digest}, "curve": curve}
