"""Transmission: a spring with a damper between each motor and its link."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot_sim.standins.standin_part import PREFIX, StandInPart

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

DAMPING_RATIO = 0.05, 0.2
"""Of the link on its spring while the motor holds."""
MIN_ARMATURE = 0.2
"""Inertia of a rotor where the model has less, in that of its link."""
STABLE = 0.5
"""Largest (ω h)² of a spring, at which a physics step h still follows it."""
MAX_REFINEMENT = 3
"""Largest number of physics steps in one of the nominal model; stiffer springs get heavier rotors."""


@dataclass(frozen=True)
class Transmission(StandInPart):
    """Springs between motors and links: joints that the model gets behind those of the motors."""

    joints: tuple[str, ...]
    """Driven joints."""
    columns: np.ndarray
    """Their numbers in the spec."""
    stiffness: np.ndarray
    """Of each, in N m/rad (N/m)."""
    damping_ratio: np.ndarray

    @classmethod
    def draw(
        cls,
        nominal: "Plant",
        rng: np.random.Generator,
        torque: Float[np.ndarray, "J"],
        deflection: tuple[float, float],
    ) -> "Transmission":
        """Draw springs.

        Args:
            torque: Largest torque of each joint.
            deflection: Range of the deflection at the largest torque, in rad; of a joint that slides in its range.
        """
        spec, columns = nominal.spec, np.flatnonzero(nominal.effect_scale.has_motor)
        slides = np.array([spec.joints[n].kind != "hinge" for n in columns])
        size = np.where(slides, 2 * nominal.effect_scale.half_range[columns], 1.0)
        return cls(
            joints=tuple(spec.joint_names[n] for n in columns),
            columns=columns,
            stiffness=torque[columns] / (size * rng.uniform(*deflection, len(columns))),
            damping_ratio=rng.uniform(*DAMPING_RATIO, len(columns)),
        )

    def count_substeps(self, nominal: "Plant") -> int:
        """Count the physics steps in a control period that the springs need."""
        armature = np.maximum(
            nominal.model.dof_armature[nominal.dof_ids[self.columns]],
            MIN_ARMATURE * _find_link_inertia(nominal, self.columns),
        )
        fastest = np.sqrt((self.stiffness / armature).max() / STABLE)
        return min(int(np.ceil(nominal.spec.dt * fastest)), MAX_REFINEMENT * nominal.substeps)

    def add_to_spec(self, model: mujoco.MjSpec) -> None:
        for name in self.joints:
            joint = model.joint(name)
            spring = joint.parent.add_joint(
                name=name_spring(name), type=joint.type, pos=joint.pos, axis=joint.axis
            )
            # The model's defaults are for its own joints.
            spring.limited, spring.range = mujoco.mjtLimited.mjLIMITED_FALSE, (0.0, 0.0)
            spring.actfrclimited, spring.frictionloss = mujoco.mjtLimited.mjLIMITED_FALSE, 0.0
            spring.stiffness, spring.damping = np.zeros(3), np.zeros(3)
            spring.ref, spring.springref, spring.armature = 0.0, 0.0, 1e-6
            if joint.frame is not None:
                spring.set_frame(joint.frame)

    def change_model(self, plant: "Plant") -> None:
        model, step = plant.model, plant.model.opt.timestep
        motors = plant.dof_ids[self.columns]
        springs = np.array([model.joint(name_spring(name)).id for name in self.joints])
        dofs, link = model.jnt_dofadr[springs], _find_link_inertia(plant, self.columns)
        least = self.stiffness * step**2 / STABLE
        model.jnt_stiffness[springs] = self.stiffness
        model.dof_armature[motors] = np.maximum(
            model.dof_armature[motors], np.maximum(MIN_ARMATURE * link, least)
        )
        model.dof_armature[dofs] = np.maximum(1e-6, least - link)
        inertia = link + model.dof_armature[dofs]
        model.dof_damping[dofs] = 2 * self.damping_ratio * np.sqrt(self.stiffness * inertia)


def name_spring(joint: str) -> str:
    """Return the name of the joint that the spring of a motor's joint is."""
    return f"{PREFIX}{joint}/spring"


def _find_link_inertia(plant: "Plant", columns: np.ndarray) -> np.ndarray:
    """Return the inertia at home that each joint moves, without its rotor, in kg m² (kg)."""
    model, data = plant.model, mujoco.MjData(plant.model)
    data.qpos[plant.qpos_ids] = plant.spec.home_position
    mujoco.mj_forward(model, data)
    full = np.zeros((model.nv, model.nv))
    for row, unit in zip(full, np.eye(model.nv), strict=True):
        mujoco.mj_mulM(model, data, row, unit)
    dofs = plant.dof_ids[columns]
    return np.asarray(full.diagonal()[dofs] - model.dof_armature[dofs])
