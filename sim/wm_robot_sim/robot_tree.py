"""Robot tree: which joints and actuators of a model belong to the robot, and which to objects around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot.robots.robot_model import ModelActuator, RobotModel
from wm_robot.spec import JOINT_KINDS
from wm_robot_sim.model_quantities import quote_names


@dataclass(frozen=True)
class RobotTree:
    """Joints and actuators of the robot in a model, by number, with the reason for each that is left out."""

    joints: tuple[int, ...]
    actuators: tuple[int, ...]
    moved: tuple[int, ...]
    """Joint that each actuator moves; of several, the one that its tendon moves most."""
    left_out: tuple[str, ...]
    """One sentence for each joint and actuator that is left out."""
    base: str = ""
    """Body of the floating base; empty where the base is fixed."""


def find_robot_tree(model: mujoco.MjModel, described: RobotModel, what: str) -> RobotTree:
    """Find the joints and actuators of the robot.

    The robot is every body tree in which an actuator moves a joint, and those that a tendon or an equality ties to
    it. Other trees are objects.

    Args:
        described: The same model as plain values.
        what: The model file, for errors.

    Raises:
        SpecError: If it has several floating bases, or if no actuator moves a hinge or slide.
    """
    kinds = {joint.name: joint.kind for joint in described.joints}
    reasons = [_find_obstacle(model, n, each, kinds) for n, each in enumerate(described.actuators)]
    left_out = [
        f"actuator '{each.name}' is left out, and stays at zero: {reason}"
        for each, reason in zip(described.actuators, reasons, strict=True)
        if reason
    ]
    actuators = tuple(n for n, reason in enumerate(reasons) if not reason)
    if not actuators:
        found = "; ".join(left_out) or "it has no actuator"
        raise SpecError(
            f"no actuator of {what} moves a hinge or a slide: {found}. Add actuators to the model; a URDF gets them "
            "with --urdf"
        )
    moved = _choose_moved_joints(model, described, actuators)
    groups = _group_trees(model)
    robot = {groups[_find_root(model, joint)] for joint in moved}
    bases: list[str] = []
    joints, objects, unobserved = [], [], []
    for number, joint in enumerate(described.joints):
        if groups[_find_root(model, number)] not in robot:
            objects.append(joint.name)
        elif joint.kind in JOINT_KINDS:
            joints.append(number)
        elif joint.kind == "free":
            bases.append(joint.body)
        else:
            unobserved.append(joint.name)
    if len(bases) > 1:
        raise SpecError(
            f"{what} has the floating bodies {quote_names(bases, 8)}, and actuators, tendons or equalities tie them "
            "to one robot; a robot has one base. Make a model for each robot"
        )
    if objects:
        left_out.append(
            f"left out, since no actuator moves the object that they belong to: joints {quote_names(objects, 8)}. To "
            "observe one, add it to joints"
        )
    if unobserved:
        left_out.append(f"left out, since ball joints are not observed: joints {quote_names(unobserved, 8)}")
    return RobotTree(tuple(joints), actuators, moved, tuple(left_out), "".join(bases))


def _choose_moved_joints(
    model: mujoco.MjModel, described: RobotModel, actuators: Sequence[int]
) -> tuple[int, ...]:
    """Choose the joint of each actuator.

    Of a tendon it is the joint with the largest coefficient; of equal ones, the first without an actuator.
    """
    numbers = {joint.name: n for n, joint in enumerate(described.joints)}
    chosen: list[int] = []
    for actuator in actuators:
        joints = [numbers[name] for name in described.actuators[actuator].joints]
        weights = np.ones(len(joints))
        if model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_TENDON:
            first = model.tendon_adr[model.actuator_trnid[actuator, 0]]
            weights = np.abs(model.wrap_prm[first : first + len(joints)])
        best = max(range(len(joints)), key=lambda n: (weights[n], joints[n] not in chosen))
        chosen.append(joints[best])
    return tuple(chosen)


def _find_obstacle(model: mujoco.MjModel, number: int, actuator: ModelActuator, kinds: dict[str, str]) -> str:
    """Return why a spec cannot have an actuator; empty if it can."""
    if not actuator.joints:
        return "it moves no joint, but a site, a body or a spatial tendon"
    others = [name for name in actuator.joints if kinds[name] not in JOINT_KINDS]
    if others:
        return f"it moves the {kinds[others[0]]} joint '{others[0]}'"
    if actuator.kind != "effort" and not np.isclose(actuator.gear, 1.0):
        return f"it is a set-point of a {actuator.kind} with gear {actuator.gear:g}; the gear must be 1"
    if actuator.kind == "position" and model.actuator_dyntype[number] == mujoco.mjtDyn.mjDYN_INTEGRATOR:
        return "it integrates its command, which is the speed of a set-point"
    return ""


def _group_trees(model: mujoco.MjModel) -> dict[int, int]:
    """Map the root body of each tree to a number that trees tied by tendons and equalities share."""
    groups = {int(root): int(root) for root in set(model.body_rootid)}
    ties = [_list_tendon_roots(model, tendon) for tendon in range(model.ntendon)]
    for number in range(model.neq):
        # An integer of NumPy is in no tuple of members.
        kind = mujoco.mjtEq(model.eq_type[number])
        first, second = model.eq_obj1id[number], model.eq_obj2id[number]
        if kind == mujoco.mjtEq.mjEQ_JOINT and second >= 0:
            ties.append([_find_root(model, first), _find_root(model, second)])
        elif kind in (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD) and model.eq_objtype[number] == (
            mujoco.mjtObj.mjOBJ_BODY
        ):
            ties.append([int(model.body_rootid[first]), int(model.body_rootid[second])])
    for tied in ties:
        # The world is no tree: what hangs on it is not tied together.
        roots = [root for root in tied if root]
        for root in roots[1:]:
            old, new = groups[root], groups[roots[0]]
            groups = {each: new if group == old else group for each, group in groups.items()}
    return groups


def _list_tendon_roots(model: mujoco.MjModel, tendon: int) -> list[int]:
    first = model.tendon_adr[tendon]
    roots = []
    for wrap in range(first, first + model.tendon_num[tendon]):
        kind, number = model.wrap_type[wrap], model.wrap_objid[wrap]
        if kind == mujoco.mjtWrap.mjWRAP_JOINT:
            roots.append(_find_root(model, number))
        elif kind == mujoco.mjtWrap.mjWRAP_SITE:
            roots.append(int(model.body_rootid[model.site_bodyid[number]]))
    return roots


def _find_root(model: mujoco.MjModel, joint: int) -> int:
    return int(model.body_rootid[model.jnt_bodyid[joint]])
