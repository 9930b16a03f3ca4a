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
class MemoryFamily:
    """Entry of the registry: module and class of a memory family."""

    module: str
    class_name: str
    uses_privileged_state: bool = False
    """As `Memory.uses_privileged_state`, for a process without torch."""
    is_learned: bool = True
    """False: a baseline, whose state is never learned."""

    @property
    def memory_class(self) -> "type[Memory]":
        """Class of the family; loads torch."""
        return cast("type[Memory]", getattr(importlib.import_module(self.module), self.class_name))


DEFAULT_MEMORY = "semiparametric"
"""Family of a base of which nothing else is said."""

FAMILIES: dict[str, MemoryFamily] = {
    "gru": MemoryFamily("wm_robot.memory.gru", "GruMemory"),
    "kv": MemoryFamily("wm_robot.memory.kv", "KvMemory"),
    "delta": MemoryFamily("wm_robot.memory.delta", "DeltaMemory"),
    "hope": MemoryFamily("wm_robot.memory.hope", "HopeMemory"),
    "ridge": MemoryFamily("wm_robot.memory.ridge", "RidgeMemory"),
    "kalman": MemoryFamily("wm_robot.memory.kalman", "KalmanMemory"),
    "ekf": MemoryFamily("wm_robot.memory.ekf", "MultipleModelEkf"),
    "semiparametric": MemoryFamily("wm_robot.memory.semiparametric", "SemiparametricMemory"),
    "null": MemoryFamily("wm_robot.memory.baselines", "NullMemory", is_learned=False),
    "oracle": MemoryFamily(
        "wm_robot.memory.baselines", "OracleMemory", uses_privileged_state=True, is_learned=False
    ),
}


def find_family(name: str) -> MemoryFamily:
    """Return the memory family of that name.

    Raises:
        ConfigError: If the family is unknown.
    """
    if name not in FAMILIES:
        raise ConfigError(f"memory family '{name}' is unknown; known are {sorted(FAMILIES)}")
    return FAMILIES[name]


def make_memory(
    family: str, *, width: int, outcome: int, dt: float, channels: int, commands: int
) -> "Memory":
    """Create an untrained memory of that family.

    Args:
        channels: Number of channels of an observation.
        commands: Number of commands.

    Raises:
        ConfigError: If the family is unknown.
    """
    memory_class = find_family(family).memory_class
    more = {"channels": channels, "commands": commands} if memory_class.corrects_prediction else {}
    return memory_class(width=width, outcome=outcome, dt=dt, **more)
