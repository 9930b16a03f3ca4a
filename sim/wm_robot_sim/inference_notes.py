"""Inference notes: what is said about a robot while its spec is inferred from a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mujoco


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Compiled model, and what its file says that a compiled model does not."""

    model: mujoco.MjModel
    reference: str
    """How the spec names the model file."""
    path: Path
    velocities: Mapping[str, float] = field(default_factory=dict)
    """Joint → speed limit, in rad/s (m/s)."""
    inferred: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    to_check: tuple[str, ...] = ()


class Notes:
    """Sentences of a robot that is being inferred."""

    def __init__(self, source: ModelSource | None = None):
        """Args:
        source: Model with sentences that were already said of it.
        """
        self.inferred = list(source.inferred) if source else []
        self.assumed = list(source.assumed) if source else []
        self.to_check = list(source.to_check) if source else []


def get_unit(kind: str) -> str:
    return "rad" if kind == "hinge" else "m"


def round_digits(value: float) -> float:
    return float(f"{value:.6g}")
