"""Model findings: what a person should check in a model, although MuJoCo compiles it."""

import re
from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot_sim.model_quantities import quote_names
from wm_robot_sim.model_reader import list_names

ROS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
PENETRATION = 1e-4
"""Depth of a contact at rest that is reported, in m."""
HEAVIEST_BODY = 1e4
"""In kg."""
DENSITIES = (1.0, 2.3e4)
"""Plausible densities, in kg/m³: from air to the heaviest metals."""
MAX_FINDINGS = 6
"""Findings of a kind that are listed."""


def find_ros_names(names: Sequence[str]) -> list[str]:
    """Return a sentence about the names that ROS does not accept; none if it accepts all."""
    wrong = [name for name in dict.fromkeys(names) if not ROS_NAME.fullmatch(name)]
    if not wrong:
        return []
    return [
        f"no ROS names: {quote_names(wrong, 8)}. Such a name must start with a letter, and have letters, digits "
        "and '_' only. What is named after it in ROS needs another; rename it in the model"
    ]


def find_model_findings(model: mujoco.MjModel, qpos: Float[np.ndarray, "N"]) -> list[str]:
    """Return sentences about ranges without effect, equalities, contacts at rest and implausible bodies.

    Args:
        qpos: Positions of the whole model at home.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    return [
        *_limit(_find_idle_ranges(model), "ranges"),
        *_limit(_find_tied_joints(model), "equalities"),
        *_limit(_find_contacts(model, data), "contacts"),
        *_limit(_find_implausible_bodies(model), "bodies"),
    ]


def _find_idle_ranges(model: mujoco.MjModel) -> list[str]:
    """Return a sentence for each range that MuJoCo ignores: it ends before it begins, or its limit is off."""
    joints, actuators = (
        list_names(model, kind) for kind in (mujoco.mjtObj.mjOBJ_JOINT, mujoco.mjtObj.mjOBJ_ACTUATOR)
    )
    return [
        f"{what} '{name}' has the {kind} [{ends[0]:g}, {ends[1]:g}] in the model, which has no effect: it must be "
        "low < high, and its limit must be on"
        for what, kind, names, is_limited, ranges in (
            ("joint", "range", joints, model.jnt_limited, model.jnt_range),
            ("actuator", "ctrlrange", actuators, model.actuator_ctrllimited, model.actuator_ctrlrange),
            ("actuator", "forcerange", actuators, model.actuator_forcelimited, model.actuator_forcerange),
        )
        for name, limited, ends in zip(names, is_limited, ranges, strict=True)
        if not limited and ends.any()
    ]


def _find_tied_joints(model: mujoco.MjModel) -> list[str]:
    """Return a sentence for each joint that an equality ties to another."""
    names = list_names(model, mujoco.mjtObj.mjOBJ_JOINT)
    return [
        f"an equality ties joint '{names[first]}' to '{names[second]}'; random start poses do not respect it, and it "
        "pulls both together in the first steps"
        for kind, first, second, is_active in zip(
            model.eq_type, model.eq_obj1id, model.eq_obj2id, model.eq_active0, strict=True
        )
        if kind == mujoco.mjtEq.mjEQ_JOINT and second >= 0 and is_active
    ]


def _find_contacts(model: mujoco.MjModel, data: mujoco.MjData) -> list[str]:
    bodies = list_names(model, mujoco.mjtObj.mjOBJ_BODY)
    found: dict[tuple[int, ...], float] = {}
    for contact in data.contact:
        pair = tuple(int(model.geom_bodyid[geom]) for geom in contact.geom if geom >= 0)
        if len(pair) == 2 and -contact.dist > PENETRATION:
            found[pair] = max(found.get(pair, 0.0), -float(contact.dist))
    return [
        f"at home, bodies '{bodies[first]}' and '{bodies[second]}' are {1000 * depth:.3g} mm inside each other; the "
        "contact pushes them apart. Change home, or exclude the pair (contact/exclude)"
        for (first, second), depth in found.items()
    ]


def _find_implausible_bodies(model: mujoco.MjModel) -> list[str]:
    names, found = list_names(model, mujoco.mjtObj.mjOBJ_BODY), []
    for number in range(1, model.nbody):
        if model.body_treeid[number] < 0:
            continue
        name, mass = names[number], float(model.body_mass[number])
        a, b, c = sorted(map(float, model.body_inertia[number]))
        if mass > HEAVIEST_BODY:
            found.append(
                f"body '{name}' has a mass of {mass:g} kg; at most {HEAVIEST_BODY:g} kg is plausible"
            )
        if mass == 0 and model.body_weldid[number] == number:
            found.append(f"body '{name}' moves and has no mass of its own")
        if a + b < c * (1 - 1e-6):
            found.append(
                f"body '{name}' has the principal inertias {a:.3g}, {b:.3g} and {c:.3g} kg m²; the two smaller must "
                "sum to the largest at least"
            )
        density = _compute_density(model, number)
        if density is not None and not DENSITIES[0] <= density <= DENSITIES[1]:
            found.append(
                f"body '{name}' has {mass:.3g} kg in geoms of {density:.3g} kg/m³; from {DENSITIES[0]:g} to "
                f"{DENSITIES[1]:g} kg/m³ is plausible. Check its mass and its units"
            )
    return found


def _compute_density(model: mujoco.MjModel, body: int) -> float | None:
    """Compute the mass of a body over the volume of the boxes about its geoms, in kg/m³; None without geoms."""
    geoms = np.flatnonzero(model.geom_bodyid == body)
    volume = float((8 * np.prod(model.geom_aabb[geoms, 3:], axis=1)).sum())
    mass = float(model.body_mass[body])
    return mass / volume if mass > 0 and volume > 1e-12 else None


def _limit(sentences: list[str], what: str) -> list[str]:
    more = len(sentences) - MAX_FINDINGS
    return sentences[:MAX_FINDINGS] + ([f"… and {more} more such {what}"] if more > 0 else [])
