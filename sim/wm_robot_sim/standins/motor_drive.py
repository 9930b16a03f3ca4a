"""Motor drive: identified DC motors in place of a robot's own, with a voltage limit, back-EMF and gear friction."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot_sim.standins.servo_motor import ServoMotor
from wm_robot_sim.standins.standin_part import PREFIX, StandInMotion, StepPart

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

UNIT_SPREAD = 0.9, 1.1
"""Factor on the torque constant of each motor: no two of a kind are equal."""
SIMPLE_BIASES = (mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtBias.mjBIAS_AFFINE)
JOINT_TRANSMISSIONS = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)


@dataclass(frozen=True)
class MotorDrive(StepPart):
    """Motor of each driven joint.

    Servos of position and speed are MuJoCo's own, with the stall torque as their force limit and the back-EMF as
    damping of the joint. Motors that are given a torque apply what the voltage leaves of it.
    """

    motors: tuple[ServoMotor, ...]
    """Of each actuator of the spec."""
    joints: tuple[str, ...]
    """Joint of each."""
    columns: np.ndarray
    """Their numbers in the spec."""
    units: np.ndarray
    """Torque constant of each, in that which its driver assumes, `A`."""
    anchors: np.ndarray
    """Where the axis of each joint is in the frame of its link, `A 3`, in m."""
    axes: np.ndarray
    """Direction of each axis there, `A 3`."""
    is_torque: np.ndarray
    """Which actuators are given a torque, bool `A`."""
    is_slide: np.ndarray

    @classmethod
    def draw(
        cls,
        nominal: "Plant",
        rng: np.random.Generator,
        torque: Float[np.ndarray, "J"],
        motor: ServoMotor,
        supply: tuple[float, float],
        gain: tuple[float, float],
    ) -> "MotorDrive":
        """Draw the motors of a robot.

        Args:
            torque: Largest torque of each joint.
            motor: Published motor.
            supply: Range of the voltage of the supply, the same for all motors, in V.
            gain: Range of the position gain, the same for all motors, in that of the published motor.
        """
        spec, model = nominal.spec, nominal.model
        supply_drawn, gain_drawn = rng.uniform(*supply), rng.uniform(*gain)
        units = rng.uniform(*UNIT_SPREAD, spec.action_dim)
        motors = []
        for column, unit in zip(nominal.joint_index, units, strict=True):
            fitted = motor.fit(float(torque[column]), spec.joints[column].velocity)
            motors.append(
                replace(
                    fitted,
                    torque_constant=fitted.torque_constant * unit,
                    supply=supply_drawn,
                    position_gain=fitted.position_gain * gain_drawn,
                )
            )
        numbers = nominal.joint_ids[nominal.joint_index]
        return cls(
            motors=tuple(motors),
            joints=tuple(each.joint for each in spec.actuators),
            columns=nominal.joint_index,
            units=units,
            anchors=model.jnt_pos[numbers].copy(),
            axes=model.jnt_axis[numbers].copy(),
            is_torque=np.array([each.kind == "effort" for each in spec.actuators]),
            is_slide=model.jnt_type[numbers] == int(mujoco.mjtJoint.mjJNT_SLIDE),
        )

    def add_to_spec(self, model: mujoco.MjSpec) -> None:
        """Add sensors of the torque that each joint passes on, which gear friction depends on, and of its motor."""
        kinds, objects = mujoco.mjtSensor, mujoco.mjtObj
        for name, anchor, axis, slides in zip(
            self.joints, self.anchors, self.axes, self.is_slide, strict=True
        ):
            turned = np.zeros(4)
            mujoco.mju_quatZ2Vec(turned, axis)
            model.joint(name).parent.add_site(name=name_link_sensor(name), pos=anchor, quat=turned)
            model.add_sensor(
                name=name_link_sensor(name),
                type=kinds.mjSENS_FORCE if slides else kinds.mjSENS_TORQUE,
                objtype=objects.mjOBJ_SITE,
                objname=name_link_sensor(name),
            )
            model.add_sensor(
                name=name_motor_sensor(name),
                type=kinds.mjSENS_JOINTACTFRC,
                objtype=objects.mjOBJ_JOINT,
                objname=name,
            )

    def change_model(self, plant: "Plant") -> None:
        model, numbers = plant.model, plant.actuator_ids
        for motor, is_torque, number, joint in zip(
            self.motors, self.is_torque, numbers, plant.joint_ids[self.columns], strict=True
        ):
            dof = model.jnt_dofadr[joint]
            at_rest = motor.friction_base + motor.friction_stribeck
            if is_torque:
                model.dof_armature[dof] += motor.armature
                model.dof_damping[dof] += motor.friction_viscous
                model.dof_frictionloss[dof] += at_rest
                continue
            model.dof_armature[dof], model.dof_frictionloss[dof] = motor.armature, at_rest
            model.dof_damping[dof] = motor.friction_viscous + motor.back_emf_damping
            model.dof_dampingpoly[dof] = 0.0
            gear = abs(model.actuator_gear[number, 0])
            limit = motor.stall_torque / gear
            model.actuator_forcelimited[number], model.actuator_forcerange[number] = True, (-limit, limit)
            if model.actuator_biasprm[number, 1]:
                stiffness = motor.stiffness / gear**2
                model.actuator_gainprm[number, 0] = stiffness
                model.actuator_biasprm[number, 1:3] = -stiffness, 0.0

    def find_torque_columns(self, plant: "Plant") -> tuple[np.ndarray, np.ndarray]:
        """Find the sensor data with the torque of each motor, and with that which its joint passes on to its link."""
        motor = [int(plant.model.sensor(name_motor_sensor(name)).adr[0]) for name in self.joints]
        # The last of three axes is that of the joint.
        link = [int(plant.model.sensor(name_link_sensor(name)).adr[0]) + 2 for name in self.joints]
        return np.array(motor), np.array(link)

    def compute_friction(self, motion: StandInMotion) -> Float[np.ndarray, "R J"]:
        own = self._select(motion)
        at_rest = self._values["friction_base"] + self._values["friction_stribeck"]
        friction = compute_gear_friction(self._values, own.velocity, own.motor_torque, -own.link_torque)
        return self._spread(friction - at_rest, motion)

    def limit_command(
        self, motion: StandInMotion, command: Float[np.ndarray, "R A"], gain: Float[np.ndarray, "R A"]
    ) -> Float[np.ndarray, "R A"] | None:
        """Return the commands whose torques motors apply: those of their own torque constants, up to the voltage."""
        if not self.is_torque.any():
            return None
        back_emf = self._values["back_emf_damping"] * motion.velocity[:, self.columns]
        stall = self._values["stall_torque"]
        # A driver that is given a torque controls the current.
        possible = np.clip(self.units * command * gain, -stall - back_emf, stall - back_emf)
        is_limited = self.is_torque & (gain != 0)
        return np.where(is_limited, possible / np.where(is_limited, gain, 1.0), command)

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        names = [field.name for field in fields(ServoMotor)] + ["back_emf_damping", "stall_torque"]
        return {name: np.array([getattr(motor, name) for motor in self.motors]) for name in names}

    def _select(self, motion: StandInMotion) -> StandInMotion:
        """Select the driven joints. The back-EMF of servos is taken off their torque: in the model it is damping."""
        velocity = motion.velocity[:, self.columns]
        taken = np.where(self.is_torque, 0.0, self._values["back_emf_damping"] * velocity)
        return StandInMotion(
            motion.position[:, self.columns],
            velocity,
            motion.motor_torque[:, self.columns] - taken,
            motion.link_torque[:, self.columns],
        )

    def _spread(self, values: Float[np.ndarray, "R A"], motion: StandInMotion) -> Float[np.ndarray, "R J"]:
        whole = np.zeros_like(motion.position)
        whole[:, self.columns] = values
        return whole


def compute_gear_friction(
    motor: dict[str, np.ndarray],
    velocity: Float[np.ndarray, "R A"],
    motor_torque: Float[np.ndarray, "R A"],
    external_torque: Float[np.ndarray, "R A"],
) -> Float[np.ndarray, "R A"]:
    """Compute the dry friction of gears under load.

    Args:
        motor: Numbers of `ServoMotor`, by name.
        external_torque: Torque of the load on the output shaft; what holds a load has the opposite sign of it.

    Source: model m6 of BAM, Duclusaud et al. (2024), arXiv:2410.08650.
    """
    slow = np.exp(-(np.abs(velocity / motor["stribeck_speed"]) ** motor["stribeck_exponent"]))
    load = np.abs(
        external_torque * motor["load_friction_external"] - motor_torque * motor["load_friction_motor"]
    )
    slow_load = np.abs(
        external_torque * motor["load_friction_external_stribeck"]
        - motor_torque * motor["load_friction_motor_stribeck"]
    )
    drives = np.abs(motor_torque) > np.abs(external_torque)
    squared = np.where(
        drives,
        motor["load_friction_external_quad"] * external_torque**2,
        motor["load_friction_motor_quad"] * motor_torque**2,
    )
    opposed = np.sign(external_torque) != np.sign(motor_torque)
    at_speed = motor["friction_base"] + load
    return at_speed + slow * (motor["friction_stribeck"] + slow_load + squared * opposed)


def find_drive_lack(nominal: "Plant") -> str:
    """Return what a robot's model lacks for motors of its own to be replaced; empty if nothing."""
    model, spec = nominal.model, nominal.spec
    driven = [each.joint for each in spec.actuators]
    for flag, what in (
        (mujoco.mjtDisableBit.mjDSBL_FRICTIONLOSS, "frictionloss"),
        (mujoco.mjtDisableBit.mjDSBL_DAMPER, "damping"),
    ):
        if model.opt.disableflags & int(flag):
            return f"{what} of joints, which its option disables"
    if len(set(driven)) < len(driven):
        return "a single motor on each joint"
    for each, number in zip(spec.actuators, nominal.actuator_ids, strict=True):
        if lack := _find_actuator_lack(model, int(number)):
            return f"{lack} of actuator '{each.name}'"
    return ""


def _find_actuator_lack(model: mujoco.MjModel, number: int) -> str:
    if model.actuator_trntype[number] not in [int(kind) for kind in JOINT_TRANSMISSIONS]:
        return "a joint as the transmission"
    if model.actuator_dyntype[number] != int(mujoco.mjtDyn.mjDYN_NONE):
        return "a force at once (dyntype none)"
    if model.actuator_gaintype[number] != int(mujoco.mjtGain.mjGAIN_FIXED):
        return "a fixed gain"
    if model.actuator_biastype[number] not in [int(kind) for kind in SIMPLE_BIASES]:
        return "an affine bias, or none"
    return ""


def find_largest_torques(nominal: "Plant") -> Float[np.ndarray, "J"]:
    """Find the largest torque of the motors of each joint, in N m (N); 0 where there is none.

    It is that of the model: its force range, or the largest command. Where the model has no limit, it is the spec's.
    """
    torque = np.zeros(len(nominal.spec.joints))
    for each, number, column in zip(
        nominal.spec.actuators, nominal.actuator_ids, nominal.joint_index, strict=True
    ):
        torque[column] += _find_torque(nominal, each.kind, each.range, int(number), int(column))
    return torque


def _find_torque(nominal: "Plant", kind: str, commands: Sequence[float], number: int, column: int) -> float:
    model, gear = nominal.model, abs(nominal.model.actuator_gear[number, 0])
    if _find_actuator_lack(model, number):
        return nominal.spec.joints[column].effort
    if model.actuator_forcelimited[number]:
        return float(np.abs(model.actuator_forcerange[number]).max() * gear)
    if kind == "effort":
        return float(abs(model.actuator_gainprm[number, 0]) * gear * np.abs(commands).max())
    return nominal.spec.joints[column].effort


def name_link_sensor(joint: str) -> str:
    """Return the name of the sensor of the torque that a joint passes on to its link."""
    return f"{PREFIX}{joint}/link"


def name_motor_sensor(joint: str) -> str:
    """Return the name of the sensor of the torque of a joint's motor."""
    return f"{PREFIX}{joint}/motor"
