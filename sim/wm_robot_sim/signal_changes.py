"""Signal changes: what a world changes in a robot's commands and readings, outside its model."""

from dataclasses import dataclass, field

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.randomized_parameters import RandomizedParameters
from wm_robot_sim.worlds import World

SIGNAL_QUANTITIES = (
    "actuator/delay",
    "actuator/scale",
    "actuator/offset",
    "sensor/position_bias",
    "sensor/delay",
)


@dataclass(frozen=True)
class SignalChanges:
    """Signal changes of one world."""

    delay: np.ndarray
    """`A`, physics steps from a command to the motor."""
    scale: np.ndarray
    """`A`, factor on the command's distance from the middle of a servo's range, or from zero; reversed: negative."""
    offset: np.ndarray
    """`A`, added to the command."""
    bias: np.ndarray
    """`J`, reading of the position sensor at zero, in rad (m)."""
    sensor_delay: int
    """Age of a reading, in physics steps; less than a control period."""
    mixing: np.ndarray
    """`A A`, commands that each motor gets of those of all motors, as their distances from the middle."""
    lag: int = 0
    """Further age of the readings of joints and base, in physics steps."""
    play: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """`A`, half of the play between each servo and its joint, in rad (m); empty for none."""
    readings: "ReadingChanges | None" = None
    """None: each encoder reads its own joint, at scale 1."""


@dataclass(frozen=True)
class ReadingChanges:
    """Reading changes: what the encoders of one robot make of positions and velocities, besides their bias."""

    scale: np.ndarray
    """`J`, factor on the distance from the middle of a joint's range; negative: reversed."""
    source: np.ndarray
    """`J`, joint that each encoder reads."""
    noise_std: np.ndarray
    """`J`, further standard deviation of the position, in rad (m)."""
    is_stuck: np.ndarray
    """`J`, whether position and velocity repeat their last reading."""

    @classmethod
    def make_unchanged(cls, num_joints: int) -> "ReadingChanges":
        return cls(
            np.ones(num_joints),
            np.arange(num_joints),
            np.zeros(num_joints),
            np.zeros(num_joints, bool),
        )


def compute_signal_changes(
    randomized: RandomizedParameters, world: World, spec: RobotSpec, timestep: float
) -> SignalChanges:
    """Compute the signal changes of a world, from its fields and its named parameters.

    Args:
        timestep: Physics step, in s.
    """
    delay = np.full(spec.action_dim, world.delay)
    scale = np.where(world.gain < 0, -1.0, 1.0)
    offset, bias, sensor_delay = np.zeros(spec.action_dim), world.bias.copy(), world.sensor_delay
    for each in randomized.parameters:
        value = world.parameters[each.name]
        if each.quantity == "actuator/delay":
            delay[each.number] += round(value / timestep)
        elif each.quantity == "actuator/scale":
            scale[each.number] *= value
        elif each.quantity == "actuator/offset":
            offset[each.number] += value
        elif each.quantity == "sensor/position_bias":
            bias[each.number] += value
        elif each.quantity == "sensor/delay":
            sensor_delay += round(value / timestep)
    return SignalChanges(delay, scale, offset, bias, sensor_delay, np.eye(spec.action_dim))
