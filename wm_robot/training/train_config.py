"""Train config: the settings of the training of a base."""

from dataclasses import dataclass

from wm_robot.errors import ConfigError, check_at_least
from wm_robot.training.curriculum import Stage
from wm_robot.training.sensor_faults import SensorFaultConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Config of the training of a base. Equal config, data and seed give an equal base."""

    updates: int = 14_000
    batch_size: int = 32
    """Segments per gradient step. Many small steps learn more in an hour than few large ones."""
    segment_steps: int = 64
    """Length of a segment."""
    horizon: int = 10
    """Steps imagined open-loop; 0 for none."""
    carry_fraction: float = 0.5
    """Share of rows that continue with the state of the previous gradient step."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW, for biases, norms, heads and initial states."""
    matrix_learning_rate: float = 8e-3
    """Learning rate of Muon, for the matrices of hidden layers."""
    warmup_updates: int = 100
    open_loop_weight: float = 1.0
    """Weight of the open-loop loss; the one-step loss has weight 1."""
    physics_weight: float = 1.0
    """Weight of the error of the physics estimated from the state."""
    collect_at: tuple[float, ...] = (0.25, 0.5)
    """Shares of the training after which trajectories are collected with the planner in the loop."""
    planned_fraction: float = 0.4
    """Share of rows drawn from planned trajectories, once there are some."""
    effect_fraction: float = 0.3
    """Share of rows drawn from trajectories with undeclared effects, for a memory that is not told the physics."""
    stages: tuple[Stage, ...] = ()
    """Easier stages before the full training."""
    checkpoint_interval: int = 250
    """Gradient steps between checkpoints."""
    sensor_faults: SensorFaultConfig = SensorFaultConfig()
    """Faults of the optional sensors, where the robot has any."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(
            1, self, "updates", "batch_size", "segment_steps", "checkpoint_interval", section="train"
        )
        if not 0 <= self.horizon <= self.segment_steps:
            raise ConfigError(
                f"train.horizon is {self.horizon}; it must be from 0 to segment_steps, {self.segment_steps}"
            )
