"""Model reader: a compiled MuJoCo model as a `RobotModel`."""

import hashlib
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from wm_robot.math.kinematics import compute_rotation_matrix
from wm_robot.robots.robot_model import WORLD, ModelActuator, ModelBody, ModelJoint, ModelSite, RobotModel
from wm_robot.spec import encode_canonical_json
from wm_robot_sim.sensor_elements import PREFIX

DIGITS = 6
"""Digits that count in the digest: a new version of MuJoCo rounds the others differently."""
_JOINTS = {
    mujoco.mjtJoint.mjJNT_HINGE: "hinge",
    mujoco.mjtJoint.mjJNT_SLIDE: "slide",
    mujoco.mjtJoint.mjJNT_BALL: "ball",
    mujoco.mjtJoint.mjJNT_FREE: "free",
}
_LISTS = {
    mujoco.mjtObj.mjOBJ_BODY: "nbody",
    mujoco.mjtObj.mjOBJ_JOINT: "njnt",
    mujoco.mjtObj.mjOBJ_ACTUATOR: "nu",
    mujoco.mjtObj.mjOBJ_SITE: "nsite",
}


def read_model(model: mujoco.MjModel, sources: Mapping[str, str] | None = None) -> RobotModel:
    """Read the bodies, joints, actuators and sites of a compiled model.

    Args:
        sources: File of the model → SHA-256.
    """
    names = {kind: list_names(model, kind) for kind in _LISTS}
    bodies, sites = names[mujoco.mjtObj.mjOBJ_BODY], names[mujoco.mjtObj.mjOBJ_SITE]
    return RobotModel(
        digest=compute_model_digest(model),
        sources=dict(sources or {}),
        timestep=float(model.opt.timestep),
        bodies=tuple(
            ModelBody(
                name=bodies[number],
                parent=bodies[model.body_parentid[number]],
                position=_to_tuple(model.body_pos[number]),
                rotation=_to_tuple(model.body_quat[number]),
                mass=float(model.body_mass[number]),
            )
            for number in range(1, model.nbody)
        ),
        joints=tuple(_read_joint(model, number, names) for number in range(model.njnt)),
        actuators=tuple(_read_actuator(model, number, names) for number in range(model.nu)),
        sites=tuple(
            ModelSite(
                name=sites[number],
                body=bodies[model.site_bodyid[number]],
                position=_to_tuple(model.site_pos[number]),
            )
            for number in range(model.nsite)
            if not sites[number].startswith(PREFIX)
        ),
    )


def list_names(model: mujoco.MjModel, kind: mujoco.mjtObj) -> list[str]:
    """List the names of all objects of a kind; one without a name is named by its number."""
    count, what = getattr(model, _LISTS[kind]), kind.name.removeprefix("mjOBJ_").lower()
    names = (mujoco.mj_id2name(model, kind, number) for number in range(count))
    return [name or (WORLD if what == "body" and not n else f"({what} {n})") for n, name in enumerate(names)]


def read_actuator_kind(model: mujoco.MjModel, actuator: int) -> str:
    """Return the kind of an actuator, `position`, `velocity` or `effort`, by its gain and bias."""
    gain, (_, position, velocity) = model.actuator_gainprm[actuator, 0], model.actuator_biasprm[actuator, :3]
    if model.actuator_biastype[actuator] != mujoco.mjtBias.mjBIAS_AFFINE:
        return "effort"
    if position < 0 and np.isclose(gain, -position):
        return "position"
    return "velocity" if velocity < 0 and np.isclose(gain, -velocity) else "effort"


def compute_model_digest(model: mujoco.MjModel) -> str:
    """Compute the SHA-256 of all that decides how a model moves: names of meshes, colours and comments do not."""
    bodies, joints = (
        list_names(model, kind) for kind in (mujoco.mjtObj.mjOBJ_BODY, mujoco.mjtObj.mjOBJ_JOINT)
    )
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    quantities: dict[str, Any] = {
        "bodies": {
            name: {
                "parent": bodies[model.body_parentid[n]],
                "position": model.body_pos[n],
                "rotation": compute_rotation_matrix(model.body_quat[n]),
                "mass": model.body_mass[n],
                "center": model.body_ipos[n],
                # The principal axes of an inertia are not unique; the matrix is.
                "inertia": _compute_inertia(model, n),
                "gravity": 1 - model.body_gravcomp[n],
            }
            for n, name in enumerate(bodies)
        },
        "joints": {
            name: {
                "kind": _JOINTS[mujoco.mjtJoint(model.jnt_type[n])],
                "body": bodies[model.jnt_bodyid[n]],
                "anchor": model.jnt_pos[n],
                "axis": model.jnt_axis[n],
                "range": model.jnt_range[n] if model.jnt_limited[n] else None,
                "effort": model.jnt_actfrcrange[n] if model.jnt_actfrclimited[n] else None,
                "zero": model.qpos0[model.jnt_qposadr[n]],
                "stiffness": model.jnt_stiffness[n],
                "rest": model.qpos_spring[model.jnt_qposadr[n]],
                "damping": np.atleast_1d(model.dof_damping[model.jnt_dofadr[n]]).ravel(),
                "armature": model.dof_armature[model.jnt_dofadr[n]],
                "friction": model.dof_frictionloss[model.jnt_dofadr[n]],
            }
            for n, name in enumerate(joints)
        },
        "actuators": {
            name: {
                "moves": (model.actuator_trntype[n], _name_target(model, n)),
                "gear": model.actuator_gear[n],
                "gain": (model.actuator_gaintype[n], model.actuator_gainprm[n]),
                "bias": (model.actuator_biastype[n], model.actuator_biasprm[n]),
                "dynamics": (model.actuator_dyntype[n], model.actuator_dynprm[n]),
                "range": model.actuator_ctrlrange[n] if model.actuator_ctrllimited[n] else None,
                "force": model.actuator_forcerange[n] if model.actuator_forcelimited[n] else None,
            }
            for n, name in enumerate(list_names(model, mujoco.mjtObj.mjOBJ_ACTUATOR))
        },
        "contacts": [
            {
                "body": bodies[model.geom_bodyid[n]],
                "shape": (model.geom_type[n], model.geom_size[n], model.geom_aabb[n]),
                "position": model.geom_pos[n],
                "rotation": compute_rotation_matrix(model.geom_quat[n]),
                "friction": model.geom_friction[n],
                "bits": (model.geom_contype[n], model.geom_conaffinity[n], model.geom_condim[n]),
                "solver": (
                    model.geom_solref[n],
                    model.geom_solimp[n],
                    model.geom_margin[n],
                    model.geom_gap[n],
                ),
            }
            for n in np.flatnonzero(collides)
        ],
        "tendons": [
            {
                "parts": (model.wrap_type[wraps], model.wrap_objid[wraps], model.wrap_prm[wraps]),
                "range": model.tendon_range[n] if model.tendon_limited[n] else None,
                "stiffness": model.tendon_stiffness[n],
                "damping": np.atleast_1d(model.tendon_damping[n]).ravel(),
                "friction": model.tendon_frictionloss[n],
            }
            for n in range(model.ntendon)
            for wraps in [slice(model.tendon_adr[n], model.tendon_adr[n] + model.tendon_num[n])]
        ],
        "equalities": [
            (model.eq_type[n], model.eq_obj1id[n], model.eq_obj2id[n], model.eq_active0[n], model.eq_data[n])
            for n in range(model.neq)
        ],
        "option": {
            "timestep": model.opt.timestep,
            "gravity": model.opt.gravity,
            "wind": model.opt.wind,
            "density": model.opt.density,
            "viscosity": model.opt.viscosity,
            "integrator": model.opt.integrator,
            "cone": model.opt.cone,
            "impratio": model.opt.impratio,
            "disabled": model.opt.disableflags,
        },
    }
    return hashlib.sha256(encode_canonical_json(_round(quantities))).hexdigest()


def _read_joint(model: mujoco.MjModel, number: int, names: Mapping[mujoco.mjtObj, list[str]]) -> ModelJoint:
    limits = model.jnt_range[number]
    kind = _JOINTS[mujoco.mjtJoint(model.jnt_type[number])]
    return ModelJoint(
        name=names[mujoco.mjtObj.mjOBJ_JOINT][number],
        kind=kind,
        body=names[mujoco.mjtObj.mjOBJ_BODY][model.jnt_bodyid[number]],
        anchor=_to_tuple(model.jnt_pos[number]),
        axis=_to_tuple(model.jnt_axis[number]),
        range=_to_tuple(limits) if model.jnt_limited[number] else None,
        zero=float(model.qpos0[model.jnt_qposadr[number]]) if kind in ("hinge", "slide") else 0.0,
    )


def _read_actuator(
    model: mujoco.MjModel, number: int, names: Mapping[mujoco.mjtObj, list[str]]
) -> ModelActuator:
    limits = model.actuator_ctrlrange[number]
    return ModelActuator(
        name=names[mujoco.mjtObj.mjOBJ_ACTUATOR][number],
        kind=read_actuator_kind(model, number),
        joints=_read_moved_joints(model, number),
        gear=float(model.actuator_gear[number, 0]),
        range=_to_tuple(limits) if model.actuator_ctrllimited[number] else None,
    )


def _read_moved_joints(model: mujoco.MjModel, actuator: int) -> tuple[str, ...]:
    """Return the names of the joints that an actuator moves: its own, or those of its fixed tendon."""
    joints, target = list_names(model, mujoco.mjtObj.mjOBJ_JOINT), model.actuator_trnid[actuator, 0]
    transmission = mujoco.mjtTrn(model.actuator_trntype[actuator])
    if transmission in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT):
        return (joints[target],)
    if transmission == mujoco.mjtTrn.mjTRN_TENDON:
        first = model.tendon_adr[target]
        wraps = range(first, first + model.tendon_num[target])
        is_joint = (wrap for wrap in wraps if model.wrap_type[wrap] == mujoco.mjtWrap.mjWRAP_JOINT)
        return tuple(joints[model.wrap_objid[wrap]] for wrap in is_joint)
    return ()


def _name_target(model: mujoco.MjModel, actuator: int) -> Any:
    return _read_moved_joints(model, actuator) or model.actuator_trnid[actuator]


def _compute_inertia(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Compute the inertia of a body about its center of mass, in the body's frame, `3 3` in kg m²."""
    turned = compute_rotation_matrix(model.body_iquat[body])
    return turned @ np.diag(model.body_inertia[body]) @ turned.T


def _round(value: Any) -> Any:
    """Round numbers to `DIGITS` digits, those of an array relative to its largest one, as plain values."""
    if isinstance(value, dict):
        return {name: _round(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_round(part) for part in value]
    if value is None or isinstance(value, str):
        return value
    numbers = np.asarray(value, float)
    largest = np.abs(numbers).max(initial=0.0)
    if largest == 0 or not np.isfinite(largest):
        return np.nan_to_num(numbers + 0.0).tolist()
    unit = 10.0 ** (np.floor(np.log10(largest)) + 1 - DIGITS)
    # In whole units, as text: 0.1 + 0.2 and 0.3 are equal, and minus zero is zero.
    return [f"{number:.0f}" for number in (np.round(numbers.ravel() / unit) + 0.0)] + [f"{unit:.0e}"]


def _to_tuple(values: np.ndarray) -> Any:
    return tuple(float(value) for value in values)
