"""Memory registry: all memory families by name. A new family needs one file and one line here.

The table needs no torch: a robot that runs ONNX graphs reads it and loads no family.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from wm_robot.errors import ConfigError

if TYPE_CHECKING:
    from wm_robot.memory.memory import Memory


@dataclass(frozen=True)
class Family:
    """Entry of the registry: module and class of a memory family."""

    module: str
    class_name: str
    needs_truth: bool = False
    """As `Memory.uses_privileged_state`, for a process without torch."""
    learns: bool = True
    """False: a baseline, whose state is never learned."""
    learns_as: str = ""
    """Family with the same predictions; benchmarks that compare families leave this one out."""

    @property
    def memory(self) -> "type[Memory]":
        """Class of the family; loads torch."""
        return cast("type[Memory]", getattr(importlib.import_module(self.module), self.class_name))


FAMILIES: dict[str, Family] = {
    "gru": Family("wm_robot.memory.gru", "GruMemory"),
    "kv": Family("wm_robot.memory.kv", "KvMemory"),
    "delta": Family("wm_robot.memory.delta", "DeltaMemory"),
    "delta-gram": Family("wm_robot.memory.delta_gram", "DeltaGramMemory", learns_as="delta"),
    "hope": Family("wm_robot.memory.hope", "HopeMemory"),
    "ridge": Family("wm_robot.memory.ridge", "RidgeMemory"),
    "kalman": Family("wm_robot.memory.kalman", "KalmanMemory"),
    "ekf": Family("wm_robot.memory.ekf", "EkfMemory"),
    "none": Family("wm_robot.memory.baselines", "NoMemory", learns=False),
    "told": Family("wm_robot.memory.baselines", "ToldMemory", needs_truth=True, learns=False),
}


def find_family(name: str) -> Family:
    """Return the memory family of that name.

    Raises:
        ConfigError: If the family is unknown.
    """
    if name not in FAMILIES:
        raise ConfigError(f"memory family '{name}' is unknown; known are {sorted(FAMILIES)}")
    return FAMILIES[name]


def make_memory(family: str, *, width: int, outcome: int, dt: float) -> "Memory":
    """Create an untrained memory of that family.

    Raises:
        ConfigError: If the family is unknown.
    """
    return find_family(family).memory(width=width, outcome=outcome, dt=dt)
