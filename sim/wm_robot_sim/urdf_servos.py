"""Servos of a URDF, which has none: position servos by its effort limits, and the inertia that they need."""

import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot_sim.inference_notes import Notes
from wm_robot_sim.model_findings import PENETRATION
from wm_robot_sim.model_quantities import quote_names
from wm_robot_sim.model_reader import list_names

FULL_EFFORT_ERROR = {"hinge": 0.1, "slide": 0.02}
"""Kind of a joint → distance from its target at which a servo gives its full effort, in rad (m)."""
FULL_EFFORT_SHARE = 0.2
"""Largest such distance, in widths of the joint's range."""
FASTEST_SERVO = 100.0
"""Largest natural frequency of a servo, in rad/s; armature is added to lighter joints."""
EFFORT_MARGIN = 3.0
"""Assumed effort limit, in largest loads by gravity."""
SMALLEST_EFFORT = 1.0
"""Of an assumed effort limit, in N m (N)."""
LOAD_POSES = 50
_KINDS = {int(mujoco.mjtJoint.mjJNT_HINGE): "hinge", int(mujoco.mjtJoint.mjJNT_SLIDE): "slide"}


def add_servos(
    spec: mujoco.MjSpec,
    root: ElementTree.Element,
    path: Path,
    limits: Mapping[str, tuple[float, float]],
    notes: Notes,
) -> list[ElementTree.Element]:
    """Choose a position servo for each joint of a URDF that moves on its own, and exclude contacts at rest.

    Args:
        spec: Model of the URDF; light joints get armature, and no joint keeps an effort limit of its own.
        root: Root element of the URDF.
        path: File of the URDF.
        limits: Joint → effort limit and speed limit; 0 for none.
        notes: Gets what was inferred, assumed, and is to be checked.

    Returns:
        Sections of MJCF: `contact` and `actuator`.

    Raises:
        SpecError: If no joint can have a servo.
    """
    model = spec.compile()
    home = _choose_home(model)
    inertias, loads = _measure_joints(model, home)
    names = list_names(model, mujoco.mjtObj.mjOBJ_JOINT)
    mimics = {joint.get("name", "") for joint in root.findall("joint") if joint.find("mimic") is not None}
    assumed, armatures, shown = [], [], []
    servos, contacts = ElementTree.Element("actuator"), ElementTree.Element("contact")
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for number, name in enumerate(names):
        joint, kind = spec.joint(name), _KINDS.get(int(model.jnt_type[number]))
        if kind is None or name in mimics:
            continue
        effort, _ = limits.get(name, (0.0, 0.0))
        if effort == 0:
            effort = float(f"{max(SMALLEST_EFFORT, EFFORT_MARGIN * loads[number]):.2g}")
            assumed.append(f"'{name}' {effort:g}")
        distance = FULL_EFFORT_ERROR[kind]
        if model.jnt_limited[number]:
            low, high = map(float, model.jnt_range[number])
            distance = min(distance, FULL_EFFORT_SHARE * (high - low))
        stiffness = effort / distance
        added = max(0.0, stiffness / FASTEST_SERVO**2 - inertias[number])
        if added:
            armatures.append(f"'{name}' {added:.2g}")
            joint.armature = joint.armature + added
        damping = 2 * math.sqrt(stiffness * (inertias[number] + added))
        ranges = {"forcerange": f"{-effort:g} {effort:g}"}
        if model.jnt_limited[number]:
            ranges["ctrlrange"] = f"{low:.9g} {high:.9g}"
        gains = {"kp": f"{stiffness:.6g}", "kv": f"{damping:.6g}"}
        ElementTree.SubElement(servos, "position", {"name": name, "joint": name, **gains, **ranges})
        # The limit is that of the motor now: worlds with weaker motors change it.
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
        shown.append(f"'{name}' kp {stiffness:.3g}, kv {damping:.3g}, ±{effort:.3g}")
    if not shown:
        raise SpecError(f"{path} has no joint of type revolute, continuous or prismatic; a robot needs one")
    notes.inferred.append(f"position servos, since a URDF has no actuators: {'; '.join(shown)}")
    notes.assumed.append(
        "stiffness of the servos: full effort at 0.1 rad (0.02 m) from the target, or a fifth of the range where "
        "that is less; damping: about critical for the inertia at rest"
    )
    if assumed:
        notes.assumed.append(
            f"effort limits in N m (N): {', '.join(assumed)}; the URDF has none, and they are {EFFORT_MARGIN:g} "
            f"times the largest load by gravity, at least {SMALLEST_EFFORT:g}"
        )
    if armatures:
        notes.assumed.append(
            f"armature, the inertia of a motor behind its gear, in kg m² (kg): {', '.join(armatures)}; a URDF has "
            f"none, and without it the servos would be faster than {FASTEST_SERVO:g} rad/s"
        )
    if mimics:
        notes.inferred.append(
            f"joints that mimic another, by an equality, without servo: {quote_names(sorted(mimics), 8)}"
        )
    for first, second in _find_contacts(notes, model, home):
        ElementTree.SubElement(contacts, "exclude", {"body1": first, "body2": second})
    return [contacts, servos]


def _find_contacts(notes: Notes, model: mujoco.MjModel, home: np.ndarray) -> list[tuple[str, str]]:
    """Find the pairs of bodies that are inside each other at rest: collision shapes are generous."""
    data = mujoco.MjData(model)
    data.qpos[:] = home
    mujoco.mj_forward(model, data)
    bodies = list_names(model, mujoco.mjtObj.mjOBJ_BODY)
    pairs = {
        (min(names), max(names))
        for contact in data.contact
        if contact.geom.min() >= 0 and -contact.dist > PENETRATION
        for names in [[bodies[model.geom_bodyid[geom]] for geom in contact.geom]]
    }
    if pairs:
        shown = ", ".join(f"{first}–{second}" for first, second in sorted(pairs)[:8])
        notes.to_check.append(
            f"contacts between bodies that are inside each other at rest were excluded: {shown}"
            + (f" and {len(pairs) - 8} more" if len(pairs) > 8 else "")
        )
    return sorted(pairs)


def _choose_home(model: mujoco.MjModel) -> np.ndarray:
    """Return the zero pose, with joints whose range excludes zero in its middle, `nq`."""
    home: np.ndarray = model.qpos0.copy()
    for number in range(model.njnt):
        low, high = model.jnt_range[number]
        at = model.jnt_qposadr[number]
        if model.jnt_limited[number] and int(model.jnt_type[number]) in _KINDS and not low < home[at] < high:
            home[at] = (low + high) / 2
    return home


def _measure_joints(model: mujoco.MjModel, home: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the inertia of each joint at home in kg m² (kg), and its largest load by gravity in N m (N)."""
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    data.qpos[:] = home
    mujoco.mj_forward(model, data)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    dofs, at = model.jnt_dofadr, model.jnt_qposadr
    inertias, loads = np.diag(inertia)[dofs], np.abs(data.qfrc_bias[dofs])
    simple = np.isin(model.jnt_type, list(_KINDS))
    low, high = np.where(model.jnt_limited[:, None] == 1, model.jnt_range, [-np.pi, np.pi]).T
    for _ in range(LOAD_POSES):
        data.qpos[at[simple]] = rng.uniform(low, high)[simple]
        mujoco.mj_forward(model, data)
        loads = np.maximum(loads, np.abs(data.qfrc_bias[dofs]))
    return inertias, loads
