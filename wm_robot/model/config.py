"""Model config: the layer sizes of a world model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wm_robot.errors import ConfigError, check_at_least
from wm_robot.memory.registry import DEFAULT_MEMORY, find_family
from wm_robot.spec import RobotSpec

LOG_VARIANCE_BOUNDS = (-7.0, 6.0)
"""Bounds of the predicted log variance, in units of the one-step change. Free variances gave gradient
norms of 5-60."""
SPECIAL_CHANNELS = ("wraps", "rotations", "optional")
"""Fields that list channels which are no plain numbers, or not always there."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Config of a world model. Stored with its weights; equal config and weights give an equal base."""

    obs: int
    action: int
    truth: int
    """Number of physics parameters: given to the oracle, inferred by `ekf`, estimated from any other state."""
    dt: float
    """Control period, in s."""
    servo: tuple[int, ...]
    """For each action, the index of the observation of which it is the set-point, or -1."""
    memory: str = DEFAULT_MEMORY
    """Memory family of the lifetime state."""
    width: int = 128
    blocks: int = 1
    """Number of memory layers."""
    context: int = 32
    """Size of the learned part of the latent."""
    recent: int = 3
    """Number of actions that may still be on their way to the motors when a plan starts."""
    outcome: int = 64
    """Size of the encoded outcome."""
    wraps: tuple[int, ...] = ()
    """Indices of the observed angles that wrap."""
    rotations: tuple[int, ...] = ()
    """Index of the first observed channel of each rotation."""
    optional: tuple[int, ...] = ()
    """Indices of the channels of optional sensors: the memory is told which of them are readings."""

    def __post_init__(self) -> None:
        check_at_least(
            1, self, "obs", "action", "width", "blocks", "context", "recent", "outcome", section="model"
        )
        most = find_family(self.memory).memory_class.max_layers
        if most is not None and self.blocks > most:
            raise ConfigError(
                f"model.blocks is {self.blocks}; family '{self.memory}' has at most {most} block(s)"
            )
        if len(self.servo) != self.action:
            raise ConfigError(
                f"model.servo has {len(self.servo)} entries; it needs one for each of {self.action}"
            )

    @classmethod
    def from_spec(cls, spec: RobotSpec, *, truth: int, **shape: Any) -> "ModelConfig":
        """Create the config for a robot."""
        column = {name: i for i, name in enumerate(spec.observation_names)}
        servo = tuple(column[f"{a.joint}/position"] if a.is_servo else -1 for a in spec.actuators)
        return cls(
            obs=spec.obs_dim,
            action=spec.action_dim,
            truth=truth,
            dt=spec.dt,
            servo=servo,
            wraps=spec.layout.wraps,
            rotations=spec.layout.rotations,
            optional=spec.layout.optional,
            **shape,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`. Special channels are left out where there are none, so that a base of
        plain channels keeps its digest."""
        return {name: value for name, value in asdict(self).items() if value or name not in SPECIAL_CHANNELS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)
