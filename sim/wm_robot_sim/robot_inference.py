"""Robot inference: the spec of a robot, read off its model, with all that had to be assumed."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from wm_robot.robots.model_check import attach_model
from wm_robot.spec import BASE, VERSION, WHOLE_TURN, FloatingBase, RobotSpec
from wm_robot.spec.checks import build_section
from wm_robot_sim.actuator_inference import infer_actuator, set_action_rates
from wm_robot_sim.base_motion import BaseMotion, lift_out_of_ground
from wm_robot_sim.control_rate import choose_rate
from wm_robot_sim.inference_notes import ModelSource, Notes, round_digits
from wm_robot_sim.joint_inference import UNLIMITED, infer_joint, note_efforts, set_velocities
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.model_findings import find_model_findings, find_ros_names
from wm_robot_sim.model_quantities import quote_names
from wm_robot_sim.model_reader import list_names, read_model
from wm_robot_sim.plant import Plant
from wm_robot_sim.robot_tree import find_robot_tree
from wm_robot_sim.sensor_inference import infer_sensors
from wm_robot_sim.tip_choice import choose_tip
from wm_robot_sim.world_inference import find_ground, has_gravity, infer_world

MOST_JOINTS = 40
HOME_MARGIN = 0.05
"""Smallest distance of home from the end of a range, in widths of the range."""


@dataclass(frozen=True, kw_only=True)
class InferredRobot:
    """Spec of a robot as plain values, and sentences about each of its parts."""

    values: dict[str, Any]
    """For `RobotSpec.from_dict`."""
    inferred: tuple[str, ...]
    assumed: tuple[str, ...]
    to_check: tuple[str, ...]


def infer_robot(
    source: ModelSource, *, name: str, folder: Path, rate: float | None = None, tip: str = ""
) -> InferredRobot:
    """Infer the spec of a robot from its model.

    Args:
        folder: Folder of the spec.
        rate: Control rate, in Hz; None: the one nearest to 50 Hz that the physics step divides.
        tip: Site or body that is the gripper point; empty: chosen by its name, or the end of the longest chain.

    Raises:
        SpecError: If the model is no robot that a spec can describe, or if rate or tip do not fit it.
    """
    model, notes = source.model, Notes(source)
    described = read_model(model)
    tree = find_robot_tree(model, described, str(source.path))
    notes.to_check += tree.left_out
    values: dict[str, Any] = {
        "version": VERSION,
        "name": name,
        "rate": choose_rate(float(model.opt.timestep), rate, notes.inferred),
        "model": source.reference,
        "interfaces": ["position", "velocity"],
    }
    if tree.base:
        values["base"] = _start_base(tree.base)
    joints = [described.joints[number] for number in tree.joints]
    values["joints"] = [infer_joint(source, described, tree, number) for number in tree.joints]
    if len(joints) > MOST_JOINTS:
        notes.to_check.append(
            f"the robot has {len(joints)} joints; up to {MOST_JOINTS} were tried. Remove joints from the spec that "
            "need not be observed"
        )
    limits = {joint["name"]: joint.get("position", WHOLE_TURN) for joint in values["joints"]}
    if wrapping := [joint["name"] for joint in values["joints"] if "wraps" in joint]:
        notes.inferred.append(
            f"joints {quote_names(wrapping, 8)} wrap at ±π: they are hinges without limit, and no servo moves them"
        )
    endless = [joint.name for joint in joints if joint.range is None and joint.name not in wrapping]
    if endless:
        notes.assumed.append(
            f"range of joints {quote_names(endless, 8)}: ±{UNLIMITED:g} rad (m), since the model has none"
        )
    note_efforts(tree, values["joints"], model, notes)
    values["actuators"] = [
        infer_actuator(model, described, number, described.joints[joint], limits, notes)
        for number, joint in zip(tree.actuators, tree.moved, strict=True)
    ]
    # Which foot is the tip of a robot that walks is a choice of its task.
    tip_name = "" if tree.base and not tip else choose_tip(described, limits, tip, source.path, notes)
    if tip_name:
        values["tip"] = tip_name
    spec = attach_model(RobotSpec.from_dict(values, folder=folder), described)
    home = _infer_home(model, spec, notes)
    values["safety"] = {"home": home}
    qpos = _make_home_qpos(model, values, home, notes)
    parts = set_velocities(source, values, joints, home, qpos, notes)
    set_action_rates(values, notes)
    if parts > 1:
        model = copy.copy(model)
        model.opt.timestep /= parts
    spec = attach_model(RobotSpec.from_dict(values, folder=folder), described)
    values["tasks"] = _choose_task(model, spec, notes)
    values["world"] = infer_world(model, spec, described, home, notes)
    if parts > 1:
        values["world"]["timestep"] = float(model.opt.timestep)
    notes.to_check += find_model_findings(model, qpos)
    if spec.base and has_gravity(model) and not find_ground(model):
        notes.to_check.append(
            f"the base floats, and nothing in {source.path.name} holds it up: no body that is fixed collides. "
            "Without a ground the robot falls for ever. Name a scene that includes it, or add a plane"
        )
    notes.to_check += find_ros_names([*spec.joint_names, *spec.action_names])
    if sensors := infer_sensors(model, values, notes):
        values["sensors"] = sensors
    # What a spec declares and its model cannot show is found before a file is written.
    spec = RobotSpec.from_dict(values, folder=folder)
    Plant(spec, compile_model(spec) if sensors else model)
    return InferredRobot(
        values=values,
        inferred=tuple(notes.inferred),
        assumed=tuple(notes.assumed),
        to_check=tuple(notes.to_check),
    )


def _start_base(body: str) -> dict[str, Any]:
    """Return the values of a floating base before its home and its speeds are known."""
    return {
        "body": body,
        "height": 0.0,
        "rotation": [1.0, 0.0, 0.0, 0.0],
        "linear_velocity": 1.0,
        "angular_velocity": 1.0,
    }


def _make_home_qpos(
    model: mujoco.MjModel, values: dict[str, Any], home: dict[str, float], notes: Notes
) -> np.ndarray:
    """Make the positions of the whole model at home; set those of a floating base."""
    names, qpos = list_names(model, mujoco.mjtObj.mjOBJ_JOINT), np.array(model.qpos0)
    for name, position in home.items():
        qpos[model.jnt_qposadr[names.index(name)]] = position
    if "base" not in values:
        return qpos
    base = BaseMotion(build_section(FloatingBase, values["base"]), model)
    key = find_home_key(model)
    qpos[base.qpos_ids] = (model.qpos0 if key is None else model.key_qpos[key])[base.qpos_ids]
    height = base.qpos_ids[2]
    before = float(qpos[height])
    lift_out_of_ground(model, mujoco.MjData(model), qpos, int(height))
    values["base"] |= {
        "height": round_digits(float(qpos[height])),
        "rotation": [round_digits(float(value)) for value in qpos[base.qpos_ids[3:]]],
    }
    origin = "the model's zero pose" if key is None else "the keyframe of home"
    said = f"the base floats: body '{base.base.body}' has a free joint; its home is that of {origin}"
    if qpos[height] > before:
        said += f", {qpos[height] - before:.3g} m higher, out of the ground"
    notes.inferred.append(
        f"{said}. Its height, rotation and velocity are observed; its horizontal position is not, since nothing "
        "in the dynamics depends on it"
    )
    return qpos


def find_home_key(model: mujoco.MjModel) -> int | None:
    """Find the keyframe of home: the one with that name, or the first; None without one."""
    names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_KEY, n) or "" for n in range(model.nkey)]
    return next((n for n, name in enumerate(names) if name.lower() == "home"), 0) if names else None


def _infer_home(model: mujoco.MjModel, spec: RobotSpec, notes: Notes) -> dict[str, float]:
    """Return the rest position of each joint: of a keyframe, or of the model's zero pose, or the middle."""
    described, limits = read_model(model), spec.pose_limits
    numbers = {joint.name: n for n, joint in enumerate(described.joints)}
    at = [int(model.jnt_qposadr[numbers[name]]) for name in spec.joint_names]
    number = find_home_key(model)
    if number is not None:
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_KEY, number) or number
        pose, origin = model.key_qpos[number][at], f"keyframe '{name}'"
        inside = np.clip(pose, limits[:, 0], limits[:, 1])
        notes.inferred.append(f"home is {origin}")
        for name, value, cut in zip(spec.joint_names, pose, inside, strict=True):
            if abs(value - cut) > 1e-6:
                notes.to_check.append(
                    f"home of '{name}' is {cut:g}, the end of its range; {origin} has {value:g}"
                )
    else:
        pose, margin = model.qpos0[at], HOME_MARGIN * np.diff(limits)[:, 0]
        near = (pose < limits[:, 0] + margin) | (pose > limits[:, 1] - margin)
        inside = np.where(near, limits.mean(1), pose)
        middle = [name for name, is_near in zip(spec.joint_names, near, strict=True) if is_near]
        notes.assumed.append(
            "home is the model's zero pose, since it has no keyframe"
            + (f"; the middle of the range for {', '.join(middle)}" if middle else "")
        )
    return {name: round_digits(float(value)) for name, value in zip(spec.joint_names, inside, strict=True)}


def _choose_task(model: mujoco.MjModel, spec: RobotSpec, notes: Notes) -> dict[str, Any]:
    if spec.base:
        notes.inferred.append(
            "first task 'upright': the base as upright as at home; docs/add_a_task.md has the others"
        )
        height = {"height": spec.base.height, "height_joint": BASE} if has_gravity(model) else {}
        return {"upright": {"reward": "upright", "parameters": {"joint": BASE, **height}}}
    servos = {each.joint for each in spec.actuators if each.is_servo}
    moved = {each.joint for each in spec.actuators}
    if spec.chain and {link.joint for link in spec.chain} <= servos:
        notes.inferred.append("first task 'reach': every joint of the chain to the tip has a position servo")
        return {"reach": {"reward": "reach", "goal": 3, "parameters": {"speed_cost": 0.005}}}
    kinds = [joint.kind for joint in spec.joints]
    if kinds == ["slide", "hinge"] and moved == {spec.joint_names[0]} and _stands_on_joint(model, spec):
        notes.inferred.append(
            "first task 'balance': a moved slide carries a hinge without motor, upright at zero"
        )
        return {"balance": {"reward": "balance"}}
    notes.inferred.append("first task 'hold': stay at home; docs/add_a_task.md has the others")
    return {"hold": {"reward": "hold"}}


def _stands_on_joint(model: mujoco.MjModel, spec: RobotSpec) -> bool:
    """Whether the mass that the second joint carries is above it in the zero pose."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    number = [joint.name for joint in read_model(model).joints].index(spec.joint_names[1])
    body = model.jnt_bodyid[number]
    return bool(data.subtree_com[body, 2] > data.xanchor[number, 2])
