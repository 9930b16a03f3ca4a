"""Model quantities: finds physical quantities of a MuJoCo model by name, and scales or shifts them."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot_sim.sensor_elements import PREFIX

MAX_NAMES, MAX_FINDINGS = 3, 6
"""Names in a list, and lines in a message."""
SCALED_GAINS = (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtGain.mjGAIN_AFFINE)
"""Kinds of gain that are proportional to the parameters that a world changes."""
SINGLE_AXIS = (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE)
PAYLOAD_RADIUS = 0.02
"""Radius of the ball that represents a payload, in m."""
AXES = ("x", "y", "z")
MODEL_FIELDS = {
    "body/mass": ("body_mass", "body_inertia"),
    "payload/mass": ("body_mass", "body_inertia"),
    "joint/damping": ("dof_damping", "dof_dampingpoly"),
    "joint/armature": ("dof_armature",),
    "joint/frictionloss": ("dof_frictionloss",),
    "joint/stiffness": ("jnt_stiffness", "jnt_stiffnesspoly"),
    "joint/range": ("jnt_range",),
    "actuator/gain": ("actuator_gainprm", "actuator_biasprm"),
    "actuator/force_limit": ("actuator_forcerange",),
    "geom/friction": ("geom_friction",),
}
"""Quantity → arrays of the model that hold it; MuJoCo before 3.5 has no polynomials of damping and stiffness."""
OBJECTS = {
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "payload": mujoco.mjtObj.mjOBJ_BODY,
    "joint": mujoco.mjtObj.mjOBJ_JOINT,
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
}
"""Kind of element → kind of object in MuJoCo."""


@dataclass(frozen=True)
class Lack:
    """What an element lacks, so that a range has no effect on it."""

    words: str
    remedy: str


def list_elements(model: mujoco.MjModel, element: str) -> dict[str, int]:
    """Return the named elements of a kind, with their numbers; what a simulation adds to a model is left out."""
    kind = OBJECTS[element]
    counts = {"body": model.nbody, "payload": model.nbody, "joint": model.njnt, "actuator": model.nu}
    numbers = range(counts.get(element, model.ngeom))
    names = {mujoco.mj_id2name(model, kind, number): number for number in numbers}
    return {
        name: number
        for name, number in names.items()
        if name and not name.startswith(PREFIX) and (kind != OBJECTS["body"] or number)
    }


def is_common_element(model: mujoco.MjModel, element: str, number: int) -> bool:
    """Whether a `*` matches an element: bodies that move, joints of one axis, geoms that touch."""
    if element in ("body", "payload"):
        return bool(model.body_weldid[number]) and (element == "payload" or model.body_mass[number] > 0)
    if element == "joint":
        return model.jnt_type[number] in [int(kind) for kind in SINGLE_AXIS]
    return element != "geom" or can_touch(model, number)


def find_lack(model: mujoco.MjModel, quantity: str, number: int) -> Lack | None:
    """Return what an element lacks for a quantity of the model; None if a range has an effect."""
    element = quantity.partition("/")[0]
    if element == "joint":
        return _find_joint_lack(model, quantity, number)
    if element in ("body", "payload"):
        if not model.body_weldid[number]:
            return Lack("no motion", "Name a body that moves")
        return _lack_unless(element == "payload" or model.body_mass[number] > 0, "no mass", "Give it some")
    if element == "geom":
        return _lack_unless(
            can_touch(model, number) and model.geom_friction[number].any(),
            "no contact with friction",
            "Set its contype, conaffinity and friction",
        )
    if quantity == "actuator/gain":
        is_scaled = model.actuator_gaintype[number] in [int(kind) for kind in SCALED_GAINS]
        has_gain = model.actuator_gainprm[number, :3].any()
        return _lack_unless(is_scaled and has_gain, "no gain that a factor scales", "Give it a fixed gain")
    if quantity == "actuator/force_limit":
        if not model.actuator_forcelimited[number]:
            return Lack("no forcerange", "Give it one")
        is_unreachable = find_unreachable_limits(model, np.array([number]))[0]
        return _lack_unless(
            not is_unreachable, "a forcerange that gain times ctrlrange never reaches", "Make it smaller"
        )
    if quantity == "option/gravity/factor":
        return _lack_unless(has_gravity(model), "no gravity", "Give it gravity")
    if quantity == "option/density":
        return _lack_unless(model.opt.density > 0, "no density of its medium", "Give it option density")
    is_off = quantity == "option/gravity/shift" and is_disabled(model, mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    return Lack("gravity disabled by a flag", "Enable it") if is_off else None


def _find_joint_lack(model: mujoco.MjModel, quantity: str, number: int) -> Lack | None:
    name = quantity.partition("/")[2].partition("/")[0]
    bits = {
        "damping": mujoco.mjtDisableBit.mjDSBL_DAMPER,
        "stiffness": mujoco.mjtDisableBit.mjDSBL_SPRING,
        "frictionloss": mujoco.mjtDisableBit.mjDSBL_FRICTIONLOSS,
        "range": mujoco.mjtDisableBit.mjDSBL_LIMIT,
    }
    if name in bits and is_disabled(model, bits[name]):
        return Lack(f"{name} disabled by a flag", "Enable it")
    if name == "range":
        is_limited = model.jnt_limited[number] and is_common_element(model, "joint", number)
        return _lack_unless(is_limited, "no limits of one axis", "Give it a range")
    arrays = find_arrays(model, f"joint/{name}")
    has_some = any(array[find_rows(model, f"joint/{name}", number)].any() for array in arrays)
    return _lack_unless(has_some, f"no {name}", "Give it some")


def _lack_unless(condition: object, words: str, remedy: str) -> Lack | None:
    return None if condition else Lack(words, remedy)


def find_arrays(model: mujoco.MjModel, quantity: str) -> list[np.ndarray]:
    """Return the arrays of a model that hold a quantity."""
    return [getattr(model, name) for name in MODEL_FIELDS.get(quantity, ()) if hasattr(model, name)]


def find_rows(model: mujoco.MjModel, quantity: str, number: int) -> slice:
    """Return the rows of an element in the arrays of a quantity: its own, or those of a joint's axes."""
    if not MODEL_FIELDS[quantity][0].startswith("dof_"):
        return slice(number, number + 1)
    first = int(model.jnt_dofadr[number])
    later = [int(address) for address in model.jnt_dofadr if address > first]
    return slice(first, min(later, default=model.nv))


def reset_quantities(model: mujoco.MjModel, nominal: mujoco.MjModel, quantities: Sequence[str]) -> None:
    """Set the arrays of some quantities to their nominal values."""
    for quantity in quantities:
        for array, source in zip(find_arrays(model, quantity), find_arrays(nominal, quantity), strict=True):
            array[:] = source
    model.opt.gravity[:], model.opt.density = nominal.opt.gravity, nominal.opt.density


def change_quantity(model: mujoco.MjModel, name: str, number: int, value: float) -> None:
    """Scale or shift one quantity of a model, in place.

    Args:
        name: Quantity, with its unit where it has several, such as `joint/range/shift`.
        value: Factor, shift or mass.
    """
    quantity = "/".join(name.split("/")[:2])
    if name == "payload/mass":
        model.body_mass[number] += value
        model.body_inertia[number] += 0.4 * value * PAYLOAD_RADIUS**2
    elif quantity == "joint/range":
        model.jnt_range[number] += [value, value if name.endswith("/shift") else -value]
        low, high = model.jnt_range[number]
        if low >= high:
            raise SpecError(
                f"{name} of joint '{model.joint(number).name}' is {value:g}, and its range is [{low:g}, {high:g}] "
                "then. Make it smaller"
            )
    elif name == "option/gravity/factor":
        model.opt.gravity[:] *= value
    elif quantity == "option/gravity":
        model.opt.gravity[AXES.index(name[-1])] += value
    elif name == "option/density":
        model.opt.density *= value
    elif name == "actuator/gain":
        # An affine gain has three parameters; those behind them belong to other kinds.
        model.actuator_gainprm[number, :3] *= value
        model.actuator_biasprm[number] *= value
    else:
        for array in find_arrays(model, quantity):
            array[find_rows(model, quantity, number)] *= value


def find_unreachable_limits(model: mujoco.MjModel, motors: np.ndarray) -> np.ndarray:
    """Return which motors are too weak to reach their force limit: fixed gain, no bias, and a limited control."""
    is_simple = (
        (model.actuator_gaintype[motors] == mujoco.mjtGain.mjGAIN_FIXED)
        & (model.actuator_biastype[motors] == mujoco.mjtBias.mjBIAS_NONE)
        & (model.actuator_dyntype[motors] == mujoco.mjtDyn.mjDYN_NONE)
        & model.actuator_ctrllimited[motors].astype(bool)
    )
    ends = np.sort(model.actuator_gainprm[motors, :1] * model.actuator_ctrlrange[motors], 1)
    limits = model.actuator_forcerange[motors]
    return is_simple & (ends[:, 0] > limits[:, 0]) & (ends[:, 1] < limits[:, 1])


def can_touch(model: mujoco.MjModel, geom: int) -> bool:
    """Whether a geom can touch another with friction; contacts that the model lists in pairs have their own."""
    return bool(find_touched_geoms(model, geom).size)


def find_touched_geoms(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Return the geoms that one can touch with friction: of another body, with masks that match."""
    if is_disabled(model, mujoco.mjtDisableBit.mjDSBL_CONTACT):
        return np.empty(0, int)
    welded = model.body_weldid[model.geom_bodyid]
    matches = (model.geom_contype[geom] & model.geom_conaffinity) | (
        model.geom_contype & model.geom_conaffinity[geom]
    )
    has_friction = np.maximum(model.geom_condim, model.geom_condim[geom]) > 1
    return np.flatnonzero(matches.astype(bool) & has_friction & (welded != welded[geom]))


def has_gravity(model: mujoco.MjModel) -> bool:
    return bool(model.opt.gravity.any()) and not is_disabled(model, mujoco.mjtDisableBit.mjDSBL_GRAVITY)


def is_disabled(model: mujoco.MjModel, bit: mujoco.mjtDisableBit) -> bool:
    return bool(model.opt.disableflags & int(bit))


def quote_names(names: Sequence[str], most: int = MAX_NAMES) -> str:
    """Return names in quotes, the first ones of a long list."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def refuse_findings(spec: RobotSpec, found: Sequence[str]) -> None:
    """Reject declared dynamics that a model cannot show, all in one message.

    Raises:
        SpecError: If there is a finding.
    """
    if not found:
        return
    head = f"robot '{spec.name}' declares dynamics that {spec.model} cannot show: "
    more = len(found) - MAX_FINDINGS
    rest = [f"and {more} more"] if more > 0 else []
    raise SpecError(head + ";\n  ".join([*found[:MAX_FINDINGS], *rest]))
