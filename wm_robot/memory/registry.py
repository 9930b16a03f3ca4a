"""Every family of memory by name. A new one needs one file and one line here."""

from wm_robot.errors import ConfigError
from wm_robot.memory.baselines import NoMemory, ToldMemory
from wm_robot.memory.delta import DeltaMemory
from wm_robot.memory.delta_gram import DeltaGramMemory
from wm_robot.memory.ekf import EkfMemory
from wm_robot.memory.gru import GruMemory
from wm_robot.memory.hope import HopeMemory
from wm_robot.memory.kalman import KalmanMemory
from wm_robot.memory.kv import KvMemory
from wm_robot.memory.memory import Memory
from wm_robot.memory.ridge import RidgeMemory

FAMILIES: dict[str, type[Memory]] = {
    "ekf": EkfMemory,
    "gru": GruMemory,
    "delta": DeltaMemory,
    "delta-gram": DeltaGramMemory,
    "kalman": KalmanMemory,
    "kv": KvMemory,
    "ridge": RidgeMemory,
    "hope": HopeMemory,
    "none": NoMemory,
    "told": ToldMemory,
}


def make_memory(family: str, *, width: int, outcome: int, dt: float) -> Memory:
    """A fresh memory of that family.

    Raises:
        ConfigError: If the family is unknown.
    """
    if family not in FAMILIES:
        raise ConfigError(f"memory family '{family}' is unknown; known are {sorted(FAMILIES)}")
    return FAMILIES[family](width=width, outcome=outcome, dt=dt)
