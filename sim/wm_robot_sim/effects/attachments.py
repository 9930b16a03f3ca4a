"""Attachments: parts that a model must have before it is compiled, so that an effect can be switched on later."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot_sim.effects.effect import Effect
from wm_robot_sim.sensor_elements import PREFIX

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

PENDULUM, THERMAL = "pendulum", "thermal_derating"
ATTACHED_KINDS = (PENDULUM, THERMAL)
"""Kinds of effects that need an attachment."""
ABSENT = 1e-6
"""Mass of a pendulum that is not there, in kg: too small for the robot to feel."""
DAMPING_RATIO = 0.05


def check_attached(plant: "Plant", kinds: Collection[str]) -> None:
    """Check that the model of a robot has the parts for effects of some kinds.

    Raises:
        SpecError: If it was compiled without.
    """
    absent = [kind for kind in kinds if kind in ATTACHED_KINDS and kind not in plant.attachments]
    if absent:
        raise SpecError(
            f"the simulation of robot '{plant.spec.name}' was made without the parts for the effect '{absent[0]}'. "
            "Name its kind in effect_kinds when the simulation is made"
        )


def add_attachments(
    model: mujoco.MjSpec, kinds: Collection[str], joints: Collection[str], parent: str
) -> None:
    """Add the attachments of some kinds of effects to a model that is not compiled yet.

    Args:
        joints: Joints of the robot, whose motor forces are measured for `thermal_derating`.
        parent: Body of the last link, which a pendulum hangs from.
    """
    if PENDULUM in kinds:
        _add_pendulum(model, parent)
    if THERMAL in kinds:
        for joint in joints:
            model.add_sensor(
                name=name_force_sensor(joint),
                type=mujoco.mjtSensor.mjSENS_JOINTACTFRC,
                objtype=mujoco.mjtObj.mjOBJ_JOINT,
                objname=joint,
            )


def name_force_sensor(joint: str) -> str:
    """Return the name of the sensor of the force that motors apply to a joint."""
    return f"{PREFIX}effects/{joint}/force"


def _add_pendulum(model: mujoco.MjSpec, parent: str) -> None:
    bob = model.body(parent).add_body(name=f"{PREFIX}{PENDULUM}")
    bob.explicitinertial, bob.mass, bob.inertia, bob.ipos = True, ABSENT, np.full(3, ABSENT), (0.0, 0.0, -1.0)
    ball = bob.add_joint(name=f"{PREFIX}{PENDULUM}", type=mujoco.mjtJoint.mjJNT_BALL, damping=ABSENT)
    # The model's defaults are for its own joints.
    ball.limited, ball.range = mujoco.mjtLimited.mjLIMITED_FALSE, (0.0, 0.0)
    ball.armature, ball.frictionloss, ball.stiffness = 0.0, 0.0, np.zeros(3)


def load_pendulum(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    """Give the pendulum its length and mass, in place."""
    rng, scale = effect.make_generator(), plant.effect_scale
    mass = effect.strength * 0.1 * scale.moving_mass * rng.uniform(0.5, 1.0)
    _set_pendulum(model, mass, 0.4 * scale.reach * rng.uniform(0.5, 1.0))


def remove_pendulum(plant: "Plant", model: mujoco.MjModel) -> None:
    """Make the pendulum too light to be felt, in place; nothing if the model has none."""
    if PENDULUM in plant.attachments:
        _set_pendulum(model, ABSENT, 0.4 * plant.effect_scale.reach)


def _set_pendulum(model: mujoco.MjModel, mass: float, length: float) -> None:
    body = model.body(f"{PREFIX}{PENDULUM}").id
    inertia = mass * length**2
    model.body_mass[body], model.body_ipos[body] = mass, (0.0, 0.0, -length)
    # A large bob: the spin of a slim one is too fast for a physics step.
    model.body_inertia[body] = 0.1 * inertia
    first = model.jnt_dofadr[model.joint(f"{PREFIX}{PENDULUM}").id]
    model.dof_damping[first : first + 3] = 2 * DAMPING_RATIO * inertia * np.sqrt(9.81 / length)
