"""Model check: contradictions between a robot's spec and the model that it names."""

from collections.abc import Iterator, Sequence

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.spec import Actuator, Joint, RobotSpec
from wm_robot_sim.model_reader import (
    compute_point,
    read_actuator_kind,
    read_joint_kind,
    read_moved_joints,
)

RANGE_TOLERANCE = 1e-3
"""Largest ignored difference of two ranges, in rad (m)."""
POSITION_TOLERANCE = 1e-4
"""Largest ignored distance of the spec's tip from the model's, in m."""
CHECKED_POSES = 32


def check_against_model(spec: RobotSpec, model: mujoco.MjModel) -> None:
    """Refuse a spec that contradicts its model.

    Raises:
        SpecError: If it does; with both values of each contradiction.
    """
    found = find_contradictions(spec, model)
    if found:
        raise SpecError(
            f"robot '{spec.name}' contradicts its model {spec.model}: {'; '.join(found)}. "
            "Correct the spec or the model"
        )


def find_contradictions(spec: RobotSpec, model: mujoco.MjModel) -> list[str]:
    """Return what a spec says otherwise than its model, one sentence each; empty if they agree.

    A spec may allow less than the model. Only ranges that are wider in the spec are contradictions.
    """
    missing = [
        f"{what} '{name}' is not in the model, which has {_list_names(model, kind)}"
        for what, kind, names in (
            ("joint", mujoco.mjtObj.mjOBJ_JOINT, spec.joint_names),
            ("actuator", mujoco.mjtObj.mjOBJ_ACTUATOR, spec.action_names),
        )
        for name in names
        if mujoco.mj_name2id(model, kind, name) < 0
    ]
    if missing:
        return missing
    found = [each for joint in spec.joints for each in _compare_joint(joint, model)]
    found += [each for actuator in spec.actuators for each in _compare_actuator(actuator, model)]
    return found + ([] if found else list(_compare_chain(spec, model)))


def _compare_joint(joint: Joint, model: mujoco.MjModel) -> Iterator[str]:
    number = model.joint(joint.name).id
    kind = read_joint_kind(model, number)
    if kind != joint.kind:
        yield f"joint '{joint.name}' is a {joint.kind} in the spec, a {kind} in the model"
        return
    if model.jnt_limited[number]:
        yield from _compare_range(
            f"joint '{joint.name}' has the range", joint.position, model.jnt_range[number]
        )


def _compare_actuator(actuator: Actuator, model: mujoco.MjModel) -> Iterator[str]:
    name, number = actuator.name, model.actuator(actuator.name).id
    moved = read_moved_joints(model, number)
    if actuator.joint not in moved:
        yield f"actuator '{name}' moves '{actuator.joint}' in the spec, {list(moved)} in the model"
    kind, gear = read_actuator_kind(model, number), model.actuator_gear[number, 0]
    if actuator.kind != kind:
        yield f"actuator '{name}' has kind '{actuator.kind}' in the spec, '{kind}' in the model"
    elif kind != "effort" and not np.isclose(gear, 1.0):
        yield f"actuator '{name}' is a set-point of a {kind} in the spec, and has gear {gear:g} in the model"
    if model.actuator_ctrllimited[number]:
        limits = model.actuator_ctrlrange[number]
        yield from _compare_range(f"actuator '{name}' has the range", actuator.range, limits)


def _compare_range(what: str, said: Sequence[float], limits: np.ndarray) -> Iterator[str]:
    if said[0] < limits[0] - RANGE_TOLERANCE or said[1] > limits[1] + RANGE_TOLERANCE:
        yield f"{what} {list(said)} in the spec, [{limits[0]:g}, {limits[1]:g}] in the model"


def _compare_chain(spec: RobotSpec, model: mujoco.MjModel) -> Iterator[str]:
    """Compare the tip of the chain with the same point of the model: of the body that its last joint moves."""
    if not spec.chain:
        return
    last = model.joint(spec.chain[-1].joint).id
    body, point = int(model.jnt_bodyid[last]), model.jnt_pos[last] + np.array(spec.tip)
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    ids = np.array([model.joint(link.joint).id for link in spec.chain])
    limits = np.array([next(j.position for j in spec.joints if j.name == link.joint) for link in spec.chain])
    poses = rng.uniform(
        np.maximum(limits[:, 0], -10), np.minimum(limits[:, 1], 10), (CHECKED_POSES, len(ids))
    )
    said = compute_tip_position(poses, spec.chain, spec.tip)
    true = np.array([compute_point(model, data, ids, pose, body, point) for pose in poses])
    apart = np.linalg.norm(said - true, axis=1)
    worst = int(apart.argmax())
    if apart[worst] > POSITION_TOLERANCE:
        where = ", ".join(
            f"{link.joint} {value:.2f}" for link, value in zip(spec.chain, poses[worst], strict=True)
        )
        yield (
            f"the tip of the chain is at {_format_point(said[worst])} m in the spec, at "
            f"{_format_point(true[worst])} m in the model, {apart[worst]:.3f} m apart (with {where})"
        )


def _format_point(point: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in point) + "]"


def _list_names(model: mujoco.MjModel, kind: mujoco.mjtObj) -> list[str]:
    count = model.njnt if kind == mujoco.mjtObj.mjOBJ_JOINT else model.nu
    return [mujoco.mj_id2name(model, kind, number) or f"(unnamed {number})" for number in range(count)]
