"""Active stand-in: what the parts of a stand-in do at every physics step of a batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot_sim.standins.standin_part import StandInMotion

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant


class ActiveStandIn:
    """Stand-in of a batch of `B` robots.

    Dry friction is written into the models, so that a joint really sticks. It depends on the torques of the physics
    step before.
    """

    def __init__(self, plant: "Plant", models: Sequence[mujoco.MjModel]):
        parts, size = plant.parts, (len(models), len(plant.spec.joints))
        self._plant = plant
        self._parts = parts.step_parts if parts else ()
        self._dofs = plant.dof_ids
        self._frictions = [model.dof_frictionloss for model in models]
        self._gains = [model.actuator_gainprm for model in models]
        self._own_friction, self._factor = np.zeros(size), np.ones(size)
        self._gear = plant.model.actuator_gear[plant.actuator_ids, 0]
        self._gain = np.zeros((len(models), plant.spec.action_dim))
        drive = parts.drive if parts else None
        self._driven = drive.columns if drive else np.zeros(0, int)
        self._torque_columns = drive.find_torque_columns(plant) if drive else (np.zeros(0, int),) * 2
        self.torques = np.zeros((2, *size))
        """Torque of the motors on each joint in the step before, and that which it passed on to its link, `2 B J`."""

    @property
    def is_active(self) -> bool:
        """Whether a part acts at every physics step."""
        return bool(self._parts)

    def set_row(self, row: int, friction: Float[np.ndarray, "J"]) -> None:
        """Take over the numbers of a row's model, which a world has just set.

        Args:
            friction: Factor of the world on the dry friction of each joint.
        """
        self._own_friction[row], self._factor[row] = self._frictions[row][self._dofs], friction
        self._gain[row] = self._gains[row][self._plant.actuator_ids, 0] * self._gear

    def reset_row(self, row: int) -> None:
        """Forget the torques of a row, which was placed elsewhere."""
        self.torques[:, row] = 0.0

    def change_step(
        self,
        position: Float[np.ndarray, "B J"],
        velocity: Float[np.ndarray, "B J"],
        command: Float[np.ndarray, "B A"],
    ) -> tuple[Float[np.ndarray, "B A"], Float[np.ndarray, "B J"]]:
        """Set the friction of all models for one physics step.

        Returns:
            Commands that the motors get, and forces on joints.
        """
        motion = StandInMotion(position, velocity, self.torques[0], self.torques[1])
        friction, force = np.zeros_like(position), np.zeros_like(position)
        for part in self._parts:
            if (added := part.compute_friction(motion)) is not None:
                friction += added
            if (added := part.compute_force(motion)) is not None:
                force += added
            if (possible := part.limit_command(motion, command, self._gain)) is not None:
                command = possible
        total = np.maximum(0.0, self._own_friction + self._factor * friction)
        for array, row in zip(self._frictions, total, strict=True):
            array[self._dofs] = row
        return command, force

    def read_torques(self, sensordata: Float[np.ndarray, "B D"]) -> None:
        """Take the torques of a physics step from its sensor data."""
        for torques, columns in zip(self.torques, self._torque_columns, strict=True):
            torques[:, self._driven] = sensordata[:, columns]
