"""Stand-in part: one difference of a stand-in from the nominal model, with its sizes drawn for one robot."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
from jaxtyping import Float
from numpy import ndarray

from wm_robot_sim.sensor_elements import PREFIX as MODEL_PREFIX

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

PREFIX = f"{MODEL_PREFIX}standin/"
"""Beginning of the names of what a stand-in adds to a model."""


class StandInPart:
    """One difference from the nominal model."""

    def add_to_spec(self, model: mujoco.MjSpec) -> None:
        """Add the elements that it needs to a model that is not compiled yet."""

    def change_model(self, plant: "Plant") -> None:
        """Change the numbers of the plant's compiled model, in place."""


@dataclass(frozen=True)
class StandInMotion:
    """Motion of `R` stand-ins before a physics step."""

    position: Float[ndarray, "R J"]
    """Where the motors are, in rad (m)."""
    velocity: Float[ndarray, "R J"]
    """In rad/s (m/s)."""
    motor_torque: Float[ndarray, "R J"]
    """Torque of the motors on each joint in the step before, without back-EMF, in N m (N)."""
    link_torque: Float[ndarray, "R J"]
    """Torque that each driven joint passed on to its link in the step before, in N m (N)."""


class StepPart(StandInPart):
    """Difference with forces of its own, which are computed at every physics step. It has no hidden state."""

    def compute_friction(self, motion: StandInMotion) -> Float[ndarray, "R J"] | None:
        """Return the dry friction of each joint beyond that of the model, in N m (N); None: it adds none."""
        return None

    def compute_force(self, motion: StandInMotion) -> Float[ndarray, "R J"] | None:
        """Return the force on each joint, in N m (N); None: no force."""
        return None

    def limit_command(
        self, motion: StandInMotion, command: Float[ndarray, "R A"], gain: Float[ndarray, "R A"]
    ) -> Float[ndarray, "R A"] | None:
        """Return the commands that motors can follow; None: all of them.

        Args:
            gain: Torque on the joint for each unit of a command, of a motor that is given a torque.
        """
        return None
