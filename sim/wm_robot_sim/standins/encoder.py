"""Encoder: finite steps of position readings, of the speeds that a servo derives from them, and of commands."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wm_robot.spec import RobotSpec
from wm_robot_sim.standins.standin_part import StandInPart


@dataclass(frozen=True)
class Encoder(StandInPart):
    """Steps of readings and commands."""

    position_step: Float[np.ndarray, "J"]
    """In rad (m)."""
    velocity_step: Float[np.ndarray, "J"]
    """In rad/s (m/s): one step of the position in a control period."""
    command_step: Float[np.ndarray, "A"]
    """In the command's unit."""

    @classmethod
    def from_counts(cls, spec: RobotSpec, counts: int) -> "Encoder":
        """Make an encoder from its steps in a turn.

        A joint that slides has as many in its range, and so has a command that is no position.
        """
        position = np.array(
            [
                (2 * np.pi if joint.kind == "hinge" else float(np.ptp(joint.position))) / counts
                for joint in spec.joints
            ]
        )
        command = [
            position[spec.joint_names.index(each.joint)]
            if each.is_servo
            else float(np.ptp(each.range)) / counts
            for each in spec.actuators
        ]
        return cls(position, position * spec.rate, np.array(command))


def quantize(values: Float[np.ndarray, "*B C"], step: Float[np.ndarray, "C"]) -> Float[np.ndarray, "*B C"]:
    """Round numbers to the nearest multiple of a step; a step of zero leaves them."""
    safe = np.where(step > 0, step, 1.0)
    return np.where(step > 0, np.round(values / safe) * safe, values)
