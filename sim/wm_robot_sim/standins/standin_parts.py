"""Stand-in parts: all differences of a stand-in from a robot's nominal model, drawn for this robot."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot_sim.standins.cable_loom import CableLoom, find_crossed_joints
from wm_robot_sim.standins.encoder import Encoder
from wm_robot_sim.standins.motor_drive import MotorDrive, find_drive_lack, find_largest_torques
from wm_robot_sim.standins.physics_settings import PhysicsSettings
from wm_robot_sim.standins.standin import StandIn
from wm_robot_sim.standins.standin_part import StandInPart, StepPart
from wm_robot_sim.standins.tool import Tool, find_last_body
from wm_robot_sim.standins.torque_ripple import TorqueRipple
from wm_robot_sim.standins.transmission import Transmission

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

ROUNDING = 1e-9
"""Part of a physics step that a number of steps may be off."""


@dataclass(frozen=True, kw_only=True)
class StandInParts:
    """Parts of a stand-in; None where it does not differ."""

    standin: StandIn
    nominal_timestep: float
    """Physics step of the nominal model, in s, in which worlds count delays."""
    delay: float
    """Time from a command to the motor, beyond that of the world, in s."""
    settings: PhysicsSettings
    encoder: Encoder
    drive: MotorDrive | None = None
    transmission: Transmission | None = None
    loom: CableLoom | None = None
    ripple: TorqueRipple | None = None
    tool: Tool | None = None

    @classmethod
    def draw(cls, nominal: "Plant", standin: StandIn) -> "StandInParts":
        """Draw the parts of a stand-in for a robot.

        Raises:
            SpecError: If the robot's model lacks what the stand-in changes.
        """
        kind, rng, spec = standin.kind, standin.make_generator, nominal.spec
        if lack := find_lack(nominal, standin):
            raise SpecError(
                f"{standin} needs {lack}, which {spec.model} of robot '{spec.name}' does not have"
            )
        torque = find_largest_torques(nominal)
        substeps = int(np.ceil(kind.substeps * nominal.substeps - ROUNDING))
        transmission = None
        if any(kind.deflection):
            transmission = Transmission.draw(nominal, rng("transmission"), torque, kind.deflection)
            substeps = max(substeps, transmission.count_substeps(nominal))
        return cls(
            standin=standin,
            nominal_timestep=float(nominal.model.opt.timestep),
            delay=rng("delay").uniform(*kind.delay),
            settings=PhysicsSettings.draw(nominal, rng("physics"), kind.integrators, substeps),
            encoder=Encoder.from_counts(spec, int(rng("encoder").integers(*kind.counts, endpoint=True))),
            drive=MotorDrive.draw(nominal, rng("drive"), torque, kind.motor, kind.supply, kind.gain)
            if kind.motor
            else None,
            transmission=transmission,
            loom=CableLoom.draw(nominal, rng("loom"), torque, kind.bending, kind.drag)
            if any(kind.bending)
            else None,
            ripple=TorqueRipple.draw(nominal, rng("ripple"), torque, kind.ripple)
            if any(kind.ripple)
            else None,
            tool=Tool.draw(nominal, rng("tool"), kind.tool) if any(kind.tool) else None,
        )

    @property
    def step_parts(self) -> tuple[StepPart, ...]:
        """Parts that act at every physics step."""
        return tuple(part for part in self._list_parts() if isinstance(part, StepPart))

    def _list_parts(self) -> Iterator[StandInPart]:
        parts: tuple[StandInPart | None, ...] = (
            self.settings, self.encoder, self.drive, self.transmission, self.loom, self.ripple, self.tool,
        )  # fmt: skip
        return (part for part in parts if part is not None)

    def add_to_spec(self, model: mujoco.MjSpec) -> None:
        """Add the elements of all parts to a model that is not compiled yet."""
        for part in self._list_parts():
            part.add_to_spec(model)

    def change_model(self, plant: "Plant") -> None:
        """Change the numbers of the plant's compiled model, in place."""
        for part in self._list_parts():
            part.change_model(plant)
        mujoco.mj_setConst(plant.model, mujoco.MjData(plant.model))

    def count_steps(self, nominal_steps: Float[np.ndarray, "*A"], timestep: float) -> np.ndarray:
        """Return how many physics steps of the stand-in last as long as some of the nominal model."""
        return np.round(nominal_steps * self.nominal_timestep / timestep).astype(int)


def find_lack(nominal: "Plant", standin: StandIn) -> str:
    """Return what a robot lacks for a stand-in; empty if it can show it."""
    kind, spec, model = standin.kind, nominal.spec, nominal.model
    if kind.motor and (lack := find_drive_lack(nominal)):
        return lack
    if kind.motor or any(kind.deflection):
        named = {model.joint(number).name for number in range(model.njnt)}
        if unnamed := [each.joint for each in spec.actuators if each.joint not in named]:
            return f"a name of joint '{unnamed[0]}'"
    if any(kind.deflection) and model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_SPRING):
        return "springs of joints, which its option disables"
    if any(kind.bending) and not find_crossed_joints(nominal).any():
        return "a joint with a motor and with limits"
    if any(kind.tool) and not model.body(find_last_body(nominal)).name:
        return "a name of its last body"
    return ""
