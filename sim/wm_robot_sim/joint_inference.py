"""Joint inference: ranges, effort and speed limits of joints, read off a model or assumed."""

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from wm_robot.robots.robot_model import ModelJoint, RobotModel
from wm_robot.spec import FloatingBase
from wm_robot.spec.checks import build_section
from wm_robot_sim.base_motion import BaseMotion
from wm_robot_sim.inference_notes import ModelSource, Notes, get_unit, round_digits
from wm_robot_sim.model_quantities import quote_names
from wm_robot_sim.model_reader import list_names
from wm_robot_sim.random_motion import measure_stable_motion
from wm_robot_sim.robot_tree import RobotTree

UNLIMITED = 100.0
"""End of the range of a joint without one, in rad (m)."""
VELOCITIES, SERVO_VELOCITIES = {"hinge": 10.0, "slide": 1.0}, {"hinge": 4.0, "slide": 0.5}
"""Kind of a joint → its assumed speed limit without and with a servo, in rad/s (m/s)."""
BASE_VELOCITIES = {"linear_velocity": 2.0, "angular_velocity": 5.0}
"""Smallest assumed speed limits of a floating base, in m/s and rad/s."""
VELOCITY_MARGIN = 1.5
"""Assumed speed limit over the largest speed in random motion."""
ASSUMED_EFFORT = 1.0
"""Effort limit of a joint without motor, in N m (N)."""


def infer_joint(source: ModelSource, described: RobotModel, tree: RobotTree, number: int) -> dict[str, Any]:
    joint = described.joints[number]
    values: dict[str, Any] = {"name": joint.name}
    if joint.kind != "hinge":
        values["kind"] = joint.kind
    if joint.range is None and joint.kind == "hinge" and not _has_servo(described, joint):
        values["wraps"] = True
    elif joint.range is None:
        values["position"] = [-UNLIMITED, UNLIMITED]
    else:
        values["position"] = [round_digits(end) for end in joint.range]
    # Speed limits and rates are measured at home, which the ranges decide.
    values["velocity"] = 1.0
    values["effort"] = _infer_effort(source.model, described, tree, number)
    return values


def note_efforts(
    tree: RobotTree, joints: Sequence[Mapping[str, Any]], model: mujoco.MjModel, notes: Notes
) -> None:
    """Add the joints without motor, and the effort limits that the model does not have."""
    passive, assumed = [], []
    for number, joint in zip(tree.joints, joints, strict=True):
        movers = _find_movers(tree, number)
        if not movers:
            passive.append(joint["name"])
        elif not (model.jnt_actfrclimited[number] or all(model.actuator_forcelimited[movers])):
            assumed.append(f"'{joint['name']}' {joint['effort']:g}")
    if passive:
        notes.inferred.append(f"joints without motor, which are observed: {quote_names(passive, 8)}")
    if assumed:
        notes.assumed.append(
            f"effort limits in N m (N): {', '.join(assumed)}; the most that gain and range of the motors give, since "
            "the model has no forcerange"
        )


def set_velocities(
    source: ModelSource,
    values: dict[str, Any],
    joints: Sequence[ModelJoint],
    home: Mapping[str, float],
    qpos: np.ndarray,
    notes: Notes,
) -> int:
    """Set the speed limits. Return the number of parts into which the physics step must be divided.

    Args:
        qpos: Generalised positions of the whole model at home.
    """
    assumed, actuators = [], values["actuators"]
    kinds = {joint.name: joint.kind for joint in joints}
    servos = {each["joint"] for each in actuators if each["kind"] == "position"}
    limits = {
        name: source.velocities.get(name) or (SERVO_VELOCITIES if name in servos else VELOCITIES)[kind]
        for name, kind in kinds.items()
    }
    for actuator in actuators:
        # A motor's command may jump.
        actuator["rate"] = limits[actuator["joint"]] if actuator["kind"] == "position" else np.inf
    motion, parts = measure_stable_motion(source.model, actuators, home, values["rate"], qpos)
    address = dict(
        zip(list_names(source.model, mujoco.mjtObj.mjOBJ_JOINT), source.model.jnt_dofadr, strict=True)
    )
    if parts > 1:
        step = float(source.model.opt.timestep)
        notes.to_check.append(
            f"under random commands from end to end of their ranges, the simulation diverges with the model's "
            f"physics step of {step:g} s; world.timestep is {step / parts:g} s instead"
        )
    for entry, joint in zip(values["joints"], joints, strict=True):
        if source.velocities.get(joint.name, 0) > 0:
            entry["velocity"] = round_digits(source.velocities[joint.name])
            continue
        fastest = VELOCITY_MARGIN * float(motion[address[joint.name]])
        # Two digits: the random motion of another machine may differ in the others.
        entry["velocity"] = float(f"{max(limits[joint.name], fastest):.2g}")
        assumed.append(f"'{joint.name}' {entry['velocity']:g} {get_unit(joint.kind)}/s")
    if assumed:
        notes.assumed.append(
            f"speed limits: {', '.join(assumed)}; the model has none. They are {VELOCITY_MARGIN:g} times what random "
            "commands reach in simulation, or more"
        )
    if "base" in values:
        set_base_velocities(
            values, BaseMotion(build_section(FloatingBase, values["base"]), source.model), motion, notes
        )
    return parts


def set_base_velocities(values: dict[str, Any], base: BaseMotion, motion: np.ndarray, notes: Notes) -> None:
    """Set the speed limits of a floating base.

    Args:
        motion: Largest speed of each degree of freedom in random motion.
    """
    speeds = motion[base.dof_ids]
    for name, each in (("linear_velocity", speeds[:3]), ("angular_velocity", speeds[3:])):
        fastest = VELOCITY_MARGIN * float(np.linalg.norm(each))
        values["base"][name] = float(f"{max(BASE_VELOCITIES[name], fastest):.2g}")
    notes.assumed.append(
        f"speed limits of the base: {values['base']['linear_velocity']:g} m/s and "
        f"{values['base']['angular_velocity']:g} rad/s, {VELOCITY_MARGIN:g} times what random commands reach, or more"
    )


def _infer_effort(model: mujoco.MjModel, described: RobotModel, tree: RobotTree, number: int) -> float:
    """Return the effort limit of a joint: the model's, or the most that gain and range of its motors give."""
    joint, most = described.joints[number], 0.0
    if model.jnt_actfrclimited[number]:
        return round_digits(float(np.abs(model.jnt_actfrcrange[number]).max()))
    for actuator in _find_movers(tree, number):
        modelled = described.actuators[actuator]
        if model.actuator_forcelimited[actuator]:
            force = float(np.abs(model.actuator_forcerange[actuator]).max())
        else:
            ends = modelled.range or (-1.0, 1.0)
            if modelled.kind == "position":
                low, high = joint.range or (-1.0, 1.0)
                ends = (low - high, high - low)
            force = float(np.abs(model.actuator_gainprm[actuator, 0])) * max(map(abs, ends))
        most = max(most, force * abs(modelled.gear))
    return round_digits(most) or ASSUMED_EFFORT


def _has_servo(described: RobotModel, joint: ModelJoint) -> bool:
    """Whether a servo moves a joint, also through a tendon: its set-points count turns, so the joint does too."""
    return any(each.kind == "position" and joint.name in each.joints for each in described.actuators)


def _find_movers(tree: RobotTree, joint: int) -> list[int]:
    return [actuator for actuator, moved in zip(tree.actuators, tree.moved, strict=True) if moved == joint]
