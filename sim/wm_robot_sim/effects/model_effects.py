"""Model effects: effects that are a change of numbers in a MuJoCo model."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from wm_robot_sim.effects.attachments import PENDULUM, load_pendulum
from wm_robot_sim.effects.effect import Effect

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

CHANGED_FIELDS = (
    "jnt_stiffness",
    "qpos_spring",
    "dof_armature",
    "dof_damping",
    "dof_frictionloss",
    "jnt_range",
    "jnt_limited",
    "body_mass",
    "body_inertia",
    "body_ipos",
    "body_quat",
)
"""Arrays of a model that effects change."""
WATER_DENSITY, OIL_VISCOSITY = 1000.0, 1.0
"""In kg/m³ and Pa s."""
STICTION, SLIDING = 0.5, 0.15
"""Friction of a stick-slip joint at rest and in fast motion, as shares of an ordinary force."""


def reset_effects(model: mujoco.MjModel, nominal: mujoco.MjModel) -> None:
    """Set everything that effects change to its nominal value."""
    for name in CHANGED_FIELDS:
        getattr(model, name)[:] = getattr(nominal, name)
    model.opt.gravity[:] = nominal.opt.gravity
    model.opt.density, model.opt.viscosity = nominal.opt.density, nominal.opt.viscosity


def change_model(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    """Add an effect to the model of one robot, in place; nothing if the model does not contain it."""
    if effect.kind in MODEL_CHANGES and effect.strength:
        MODEL_CHANGES[effect.kind](plant, model, effect)


def _add_springs(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    rng, scale = effect.make_generator(), plant.effect_scale
    joints = _choose_joints(plant, rng, 2)
    # At the end of its range a joint feels up to twice an ordinary force.
    stiffness = (
        effect.strength * rng.uniform(0.5, 1.0, len(joints)) * scale.force[joints] / scale.half_range[joints]
    )
    rest = scale.middle[joints] + scale.half_range[joints] * rng.uniform(-1.0, 1.0, len(joints))
    model.jnt_stiffness[plant.joint_ids[joints]] += stiffness
    model.qpos_spring[plant.qpos_ids[joints]] = rest


def _add_inertia(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    factors = effect.make_generator().uniform(0.5, 2.0, len(plant.dof_ids))
    model.dof_armature[plant.dof_ids] += effect.strength * factors * plant.effect_scale.inertia


def _turn_mounting(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    rng = effect.make_generator()
    heading = rng.uniform(-np.pi, np.pi)
    # What stands on its own feet falls over on a steep ground.
    angle = effect.strength * rng.uniform(0.5, 1.0) * (0.15 if plant.spec.base else 0.5 * np.pi)
    axis = np.array([np.cos(heading), np.sin(heading), 0.0])
    model.opt.gravity[:] = _rotate(model.opt.gravity, axis, min(angle, np.pi))


def _fill_medium(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    rng = effect.make_generator()
    model.opt.density += effect.strength * rng.uniform(0.5, 1.5) * WATER_DENSITY
    model.opt.viscosity += effect.strength * rng.uniform(0.5, 1.5) * OIL_VISCOSITY


def _add_tool(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    rng, scale, body = effect.make_generator(), plant.effect_scale, plant.effect_scale.last_body
    direction = _draw_direction(rng)
    added = effect.strength * 0.15 * scale.moving_mass * rng.uniform(0.5, 1.0)
    offset = 0.3 * scale.reach * rng.uniform(0.5, 1.0) * direction
    mass = model.body_mass[body]
    total = mass + added
    model.body_ipos[body] += offset * added / total
    # Of two points at their common center; the least of its moments is that along the line between them.
    model.body_inertia[body] += mass * added / total * float(offset @ offset)
    model.body_mass[body] = total


def _bend_link(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    rng = effect.make_generator()
    body = plant.body_ids[_choose_joints(plant, rng, 1)[0]]
    angle = effect.strength * np.deg2rad(rng.uniform(15, 30)) * rng.choice([-1, 1])
    turned, bend = np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(bend, _draw_direction(rng), angle)
    mujoco.mju_mulQuat(turned, model.body_quat[body], bend)
    model.body_quat[body] = turned


def _narrow_ranges(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    rng, scale = effect.make_generator(), plant.effect_scale
    for joint in _choose_joints(plant, rng, 2):
        middle, half = scale.middle[joint], scale.half_range[joint] / (1 + 3 * effect.strength)
        model.jnt_range[plant.joint_ids[joint]] = middle - half, middle + half
        model.jnt_limited[plant.joint_ids[joint]] = True


def _raise_stiction(plant: "Plant", model: mujoco.MjModel, effect: Effect) -> None:
    model.dof_frictionloss[plant.dof_ids] += effect.strength * STICTION * plant.effect_scale.force


def _choose_joints(plant: "Plant", rng: np.random.Generator, count: int) -> np.ndarray:
    """Choose some of the joints that motors move."""
    return rng.permutation(np.flatnonzero(plant.effect_scale.has_motor))[:count]


def _draw_direction(rng: np.random.Generator) -> np.ndarray:
    drawn = rng.standard_normal(3)
    return drawn / np.linalg.norm(drawn)


def _rotate(vector: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotate a vector about an axis of length 1. Source: Rodrigues' formula."""
    along = axis * (axis @ vector) * (1 - np.cos(angle))
    return vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle) + along


MODEL_CHANGES: Mapping[str, Callable[["Plant", mujoco.MjModel, Effect], None]] = {
    "joint_spring": _add_springs,
    "reflected_inertia": _add_inertia,
    "mounting": _turn_mounting,
    "medium": _fill_medium,
    "tool": _add_tool,
    "bent_link": _bend_link,
    "end_stops": _narrow_ranges,
    "stick_slip": _raise_stiction,
    PENDULUM: load_pendulum,
}
