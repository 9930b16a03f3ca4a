"""Robot inference: the spec of a robot, read off its model, with all that had to be assumed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot.robots.model_check import attach_model
from wm_robot.robots.robot_model import Chain, ModelJoint, RobotModel
from wm_robot.spec import VERSION, RobotSpec
from wm_robot_sim.model_findings import find_model_findings, find_ros_names
from wm_robot_sim.model_reader import read_model
from wm_robot_sim.plant import Plant
from wm_robot_sim.random_motion import measure_random_motion
from wm_robot_sim.reachable_poses import compute_gripper_positions
from wm_robot_sim.robot_tree import RobotTree, find_robot_tree, quote_names

PREFERRED_RATE, LOWEST_RATE, HIGHEST_RATE = 50.0, 10.0, 500.0
"""Control rates, in Hz."""
UNLIMITED = 100.0
"""End of the range of a joint without one, in rad (m)."""
POSE_SPREADS = {"hinge": np.pi, "slide": 0.3}
"""Kind of a joint without range → largest distance of start poses from home, in rad (m)."""
SERVO_RANGES = {"hinge": np.pi, "slide": 0.5}
"""Kind of a joint → end of the range of a servo, where neither has one, in rad (m)."""
VELOCITIES, SERVO_VELOCITIES = {"hinge": 10.0, "slide": 1.0}, {"hinge": 4.0, "slide": 0.5}
"""Kind of a joint → its assumed speed limit without and with a servo, in rad/s (m/s)."""
VELOCITY_MARGIN = 1.5
"""Assumed speed limit over the largest speed in random motion."""
ASSUMED_EFFORT = 1.0
"""Effort limit of a joint without motor, in N m (N)."""
PERIODS_PER_RANGE = 4
"""Control periods in which a motor's command may cross its range."""
HOME_MARGIN = 0.05
"""Smallest distance of home from the end of a range, in widths of the range."""
TIP_PATTERNS = (
    r"grip|pinch",
    r"(?<![a-z])(tcp|eef?)(?![a-z])|end_?eff",
    r"attachment|(?<![a-z])tool",
    r"(?<![a-z])(hand|palm|flange)(?![a-z])",
    r"(?<![a-z])tip(?![a-z])|fingertip",
)
"""Names of a tip, the most certain first."""
FACTORS = {
    "mass": [0.8, 1.25],
    "gain": [0.7, 1.4],
    "torque": [0.8, 1.2],
    "friction": [0.5, 2.0],
    "damping": [0.7, 1.4],
}
"""Range of `world:` → its moderate values."""
PAYLOAD_SHARE = 0.1
"""Largest payload, in masses of the links that move."""
CLEARANCE = 0.02
"""Lowest height of the tip above a floor in start poses, in m."""


@dataclass(frozen=True, kw_only=True)
class InferredRobot:
    """Spec of a robot as plain values, and sentences about each of its parts."""

    values: dict[str, Any]
    """For `RobotSpec.from_dict`."""
    inferred: tuple[str, ...]
    assumed: tuple[str, ...]
    to_check: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Compiled model, and what its file says that a compiled model does not."""

    model: mujoco.MjModel
    reference: str
    """How the spec names the model file."""
    path: Path
    velocities: Mapping[str, float] = field(default_factory=dict)
    """Joint → speed limit, in rad/s (m/s)."""
    inferred: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    to_check: tuple[str, ...] = ()


class _Notes:
    """Sentences of a robot that is being inferred."""

    def __init__(self, source: ModelSource):
        self.inferred = list(source.inferred)
        self.assumed = list(source.assumed)
        self.to_check = list(source.to_check)


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
    model, notes = source.model, _Notes(source)
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
    joints = [described.joints[number] for number in tree.joints]
    values["joints"] = [_infer_joint(source, described, tree, number) for number in tree.joints]
    limits = {joint["name"]: joint["position"] for joint in values["joints"]}
    endless = [joint.name for joint in joints if joint.range is None]
    if endless:
        notes.assumed.append(
            f"range of joints {quote_names(endless)}: ±{UNLIMITED:g} rad (m), since the model has none"
        )
    _note_efforts(tree, values["joints"], model, notes)
    values["actuators"] = [
        _infer_actuator(model, described, number, described.joints[joint], limits, notes)
        for number, joint in zip(tree.actuators, tree.moved, strict=True)
    ]
    tip_name = _choose_tip(described, limits, tip, source.path, notes)
    if tip_name:
        values["tip"] = tip_name
    spec = attach_model(RobotSpec.from_dict(values, folder=folder), described)
    home = _infer_home(model, spec, notes)
    values["safety"] = {"home": home}
    _set_velocities(source, values, joints, home, notes)
    _set_action_rates(values, notes)
    spec = attach_model(RobotSpec.from_dict(values, folder=folder), described)
    values["tasks"] = _choose_task(model, spec, notes)
    values["world"] = _infer_world(model, spec, described, home, notes)
    notes.to_check += find_model_findings(model, dict(zip(spec.joint_names, spec.home_position, strict=True)))
    notes.to_check += find_ros_names([*spec.joint_names, *spec.action_names])
    return InferredRobot(
        values=values,
        inferred=tuple(notes.inferred),
        assumed=tuple(notes.assumed),
        to_check=tuple(notes.to_check),
    )


def choose_rate(timestep: float, wanted: float | None, inferred: list[str]) -> float:
    """Choose the control rate: a divisor of the physics rate.

    Args:
        timestep: Physics step, in s.
        wanted: Rate in Hz; None: the divisor nearest to 50 Hz.
        inferred: Gets a sentence about the choice.

    Raises:
        SpecError: If the physics step does not divide the wanted control period, or no rate is possible.
    """
    steps = [n for n in range(1, 10_000) if LOWEST_RATE <= 1 / (n * timestep) <= HIGHEST_RATE]
    if not steps:
        raise SpecError(
            f"the physics step of the model is {timestep:g} s; for a control rate of {LOWEST_RATE:g} to "
            f"{HIGHEST_RATE:g} Hz it must be at most {1 / LOWEST_RATE:g} s. Set option/timestep in the model"
        )
    rates = [round(1 / (n * timestep), 9) for n in steps]
    if wanted is None:
        rate = min(rates, key=lambda each: abs(each - PREFERRED_RATE))
        inferred.append(
            f"control rate {rate:.6g} Hz: {round(1 / rate / timestep)} physics steps of {timestep:g} s; the rate "
            f"nearest to {PREFERRED_RATE:g} Hz that they divide"
        )
        return rate
    matching = [rate for rate in rates if abs(1 / wanted - 1 / rate) / timestep < 1e-6]
    if matching:
        inferred.append(f"control rate {matching[0]:.6g} Hz, as given")
        return matching[0]
    near = sorted(sorted(rates, key=lambda each: abs(each - wanted))[:2])
    raise SpecError(
        f"--rate is {wanted:g} Hz, a period of {1 / wanted / timestep:.4g} physics steps of {timestep:g} s; it must "
        f"be a whole number of them, from {LOWEST_RATE:g} to {HIGHEST_RATE:g} Hz. Rates that work: "
        f"{' and '.join(f'{each:.9g}' for each in near)}"
    )


def _infer_joint(source: ModelSource, described: RobotModel, tree: RobotTree, number: int) -> dict[str, Any]:
    joint = described.joints[number]
    values: dict[str, Any] = {"name": joint.name}
    if joint.kind != "hinge":
        values["kind"] = joint.kind
    if joint.range is None:
        values["position"] = [-UNLIMITED, UNLIMITED]
    else:
        values["position"] = [_round(end) for end in joint.range]
    # Speed limits and rates are measured at home, which the ranges decide.
    values["velocity"] = 1.0
    values["effort"] = _infer_effort(source.model, described, tree, number)
    return values


def _infer_effort(model: mujoco.MjModel, described: RobotModel, tree: RobotTree, number: int) -> float:
    """Return the effort limit of a joint: the model's, or the most that gain and range of its motors give."""
    joint, most = described.joints[number], 0.0
    if model.jnt_actfrclimited[number]:
        return _round(float(np.abs(model.jnt_actfrcrange[number]).max()))
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
    return _round(most) or ASSUMED_EFFORT


def _find_movers(tree: RobotTree, joint: int) -> list[int]:
    return [actuator for actuator, moved in zip(tree.actuators, tree.moved, strict=True) if moved == joint]


def _note_efforts(
    tree: RobotTree, joints: Sequence[Mapping[str, Any]], model: mujoco.MjModel, notes: _Notes
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
        notes.inferred.append(f"joints without motor, which are observed: {quote_names(passive)}")
    if assumed:
        notes.assumed.append(
            f"effort limits in N m (N): {', '.join(assumed)}; the most that gain and range of the motors give, since "
            "the model has no forcerange"
        )


def _infer_actuator(
    model: mujoco.MjModel,
    described: RobotModel,
    number: int,
    joint: ModelJoint,
    limits: Mapping[str, Sequence[float]],
    notes: _Notes,
) -> dict[str, Any]:
    actuator = described.actuators[number]
    values: dict[str, Any] = {"name": actuator.name, "joint": joint.name, "kind": actuator.kind}
    is_direct = model.actuator_trntype[number] != mujoco.mjtTrn.mjTRN_TENDON
    if not is_direct:
        notes.to_check.append(
            f"actuator '{actuator.name}' moves {list(actuator.joints)} through a tendon; the spec lists it on "
            f"'{joint.name}'"
        )
    if actuator.range is not None:
        low, high = actuator.range
    else:
        low, high, origin = _assume_range(
            model, number, actuator.kind, joint.kind, joint.range if is_direct else None
        )
        notes.assumed.append(
            f"range of actuator '{actuator.name}': [{low:g}, {high:g}], {origin}; the model has no ctrlrange"
        )
    if actuator.kind == "position" and is_direct:
        inner = max(low, limits[joint.name][0]), min(high, limits[joint.name][1])
        if inner != (low, high) and inner[0] < inner[1]:
            notes.inferred.append(
                f"range of actuator '{actuator.name}': that of its joint, [{inner[0]:g}, {inner[1]:g}]; the model "
                f"would accept [{low:g}, {high:g}]"
            )
            low, high = inner
    values["range"] = [_round(low), _round(high)]
    values["rate"] = 1.0
    return values


def _assume_range(
    model: mujoco.MjModel, number: int, kind: str, joint_kind: str, joint_range: tuple[float, float] | None
) -> tuple[float, float, str]:
    """Return a range for an actuator without one, and where it is from."""
    if kind == "position":
        if joint_range is not None:
            return *joint_range, "that of its joint"
        end = SERVO_RANGES[joint_kind]
        return -end, end, "about one turn" if joint_kind == "hinge" else "about a workspace"
    if kind == "velocity":
        return -VELOCITIES[joint_kind], VELOCITIES[joint_kind], "an ordinary speed"
    gain = float(model.actuator_gainprm[number, 0])
    if model.actuator_gaintype[number] == mujoco.mjtGain.mjGAIN_MUSCLE:
        return 0.0, 1.0, "that of a muscle"
    if model.actuator_forcelimited[number] and gain:
        ends = sorted(_round(float(end) / gain) for end in model.actuator_forcerange[number])
        return ends[0], ends[1], "its forcerange over its gain"
    return -1.0, 1.0, "one unit of its gain"


def _set_velocities(
    source: ModelSource,
    values: dict[str, Any],
    joints: Sequence[ModelJoint],
    home: Mapping[str, float],
    notes: _Notes,
) -> None:
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
    motion = measure_random_motion(source.model, actuators, home, values["rate"])
    for entry, joint in zip(values["joints"], joints, strict=True):
        if source.velocities.get(joint.name, 0) > 0:
            entry["velocity"] = _round(source.velocities[joint.name])
            continue
        fastest = VELOCITY_MARGIN * motion[joint.name]
        # Two digits: the random motion of another machine may differ in the others.
        entry["velocity"] = float(f"{max(limits[joint.name], fastest):.2g}")
        assumed.append(f"'{joint.name}' {entry['velocity']:g} {_unit(joint.kind)}/s")
    if assumed:
        notes.assumed.append(
            f"speed limits: {', '.join(assumed)}; the model has none. They are {VELOCITY_MARGIN:g} times what random "
            "commands reach in simulation, or more"
        )


def _set_action_rates(values: dict[str, Any], notes: _Notes) -> None:
    speeds = {joint["name"]: joint["velocity"] for joint in values["joints"]}
    for actuator in values["actuators"]:
        low, high = actuator["range"]
        crossing = (high - low) * values["rate"] / PERIODS_PER_RANGE
        is_servo = actuator["kind"] == "position"
        actuator["rate"] = float(f"{min(crossing, speeds[actuator['joint']]) if is_servo else crossing:.4g}")
    notes.assumed.append(
        "fastest change of each action: the speed limit of its joint for a servo, and for every actuator its range "
        f"in {PERIODS_PER_RANGE} control periods at most; a model has no such limit"
    )


def _choose_tip(
    described: RobotModel, limits: Mapping[str, Any], wanted: str, path: Path, notes: _Notes
) -> str:
    """Return the name of the tip; empty if nothing named is moved by a joint of the robot."""
    points = {site.name: site.body for site in reversed(described.sites)}
    points |= {body.name: body.name for body in described.bodies if body.name not in points}
    lengths = {name: len(_read_chain(described, limits, name).links) for name in points}
    if wanted:
        if wanted not in points:
            close = get_close_matches(wanted, points, n=1)
            guess = f"Did you mean '{close[0]}'? " if close else ""
            raise SpecError(f"--tip is '{wanted}'; {guess}{path} has the sites and bodies {sorted(points)}")
        if not lengths[wanted]:
            moved = sorted(name for name, length in lengths.items() if length)
            raise SpecError(
                f"--tip is '{wanted}', which no joint of the robot moves; it must be one of {moved}"
            )
        notes.inferred.append(f"tip '{wanted}', as given")
        return wanted
    # A name in brackets stands for one that the model lacks.
    moved = [name for name in points if lengths[name] and not name.startswith("(")]
    if not moved:
        notes.to_check.append(
            "there is no tip: no named site or body is moved by a joint. Tasks in space need one"
        )
        return ""
    for pattern in TIP_PATTERNS:
        named = [name for name in moved if re.search(pattern, name.lower())]
        if named:
            best = max(named, key=lambda name: lengths[name])
            notes.inferred.append(
                f"tip '{best}', by its name, {lengths[best]} joints from the base; for another point: --tip"
            )
            return best
    best = max(moved, key=lambda name: (lengths[name], name == points[name]))
    others = [name for name in moved if lengths[name] == lengths[best] and name != best]
    notes.assumed.append(
        f"tip '{best}', the end of the longest chain ({lengths[best]} joints)"
        + (f"; as long are the chains to {', '.join(map(repr, others[:4]))}" if others else "")
        + ". No site or body is named as a gripper; for another point: --tip"
    )
    return best


def _read_chain(described: RobotModel, joints: Mapping[str, Any], point: str) -> Chain:
    return described.read_chain(list(joints), *described.find_point(point))


def _infer_home(model: mujoco.MjModel, spec: RobotSpec, notes: _Notes) -> dict[str, float]:
    """Return the rest position of each joint: of a keyframe, or of the model's zero pose, or the middle."""
    described, limits = read_model(model), spec.pose_limits
    numbers = {joint.name: n for n, joint in enumerate(described.joints)}
    at = [int(model.jnt_qposadr[numbers[name]]) for name in spec.joint_names]
    keys = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_KEY, n) or "" for n in range(model.nkey)]
    if keys:
        number = next((n for n, key in enumerate(keys) if key.lower() == "home"), 0)
        pose, origin = model.key_qpos[number][at], f"keyframe '{keys[number] or number}'"
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
    return {name: _round(float(value)) for name, value in zip(spec.joint_names, inside, strict=True)}


def _choose_task(model: mujoco.MjModel, spec: RobotSpec, notes: _Notes) -> dict[str, Any]:
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


def _infer_world(
    model: mujoco.MjModel, spec: RobotSpec, described: RobotModel, home: Mapping[str, float], notes: _Notes
) -> dict[str, Any]:
    """Return moderate ranges of what the model can show."""
    plant = Plant(spec, model)
    lacking = {each.factor: each for each in plant.missing_quantities if each.is_missing.any()}
    world: dict[str, Any] = {name: list(pair) for name, pair in FACTORS.items() if name not in lacking}
    for factor, missing in lacking.items():
        names = spec.action_names if missing.element == "actuator" else spec.joint_names
        notes.inferred.append(f"world has no {factor}: the model has {missing.describe_elements(names)}")
    world |= {
        "bias": 0.003,
        "position_noise": 0.0005,
        "velocity_noise": 0.01,
        "delay": [0, max(1, plant.substeps // 2)],
    }
    if "gain" not in lacking:
        world |= {"fault_counts": [0.8, 0.2], "faults": {"weak": {"chance": 1.0, "range": [0.3, 0.6]}}}
    if model.opt.gravity.any() and not model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_GRAVITY):
        world["tilt"] = 0.03
    if spec.tip_name:
        world |= _infer_payload(model, spec, described)
    world |= _infer_start_poses(model, spec, home, notes)
    notes.assumed.append(
        f"what varies between worlds: {', '.join(world)}; the values under world are moderate, and yours to set"
    )
    return world


def _infer_payload(model: mujoco.MjModel, spec: RobotSpec, described: RobotModel) -> dict[str, Any]:
    body, _ = described.find_point(spec.tip_name)
    number = [each.name for each in described.bodies].index(body) + 1
    root = model.body_rootid[number]
    moving = model.body_mass[(model.body_rootid == root) & (model.body_treeid >= 0)].sum()
    most = float(f"{PAYLOAD_SHARE * moving:.2g}")
    if body.startswith("(") or model.body_treeid[number] < 0 or most <= 0:
        return {}
    return {"payload": [0.0, most], "payload_body": body, "payload_chance": 0.6}


def _infer_start_poses(
    model: mujoco.MjModel, spec: RobotSpec, home: Mapping[str, float], notes: _Notes
) -> dict[str, Any]:
    """Return where start poses are: about home where a range is assumed, and above the floor."""
    limits, poses = spec.pose_limits, {}
    width = np.diff(limits)[:, 0]
    endless = width >= 2 * UNLIMITED
    if endless.any():
        kinds = [joint.kind for joint in spec.joints]
        spread = np.where(endless, [POSE_SPREADS[kind] for kind in kinds], width / 3)
        center = np.where(endless, [home[name] for name in spec.joint_names], limits.mean(1))
        poses = {"pose_center": [_round(v) for v in center], "pose_spread": [_round(v) for v in spread]}
    floor = _find_floor(model)
    if floor is None or not spec.chain:
        return poses
    lowest = _round(floor + CLEARANCE)
    choices = [
        np.array(poses.get("pose_center", limits.mean(1))),
        np.array([home[n] for n in spec.joint_names]),
    ]
    for center in choices:
        if compute_gripper_positions(spec, center[None])[0, 2] >= lowest + 1e-6:
            if "pose_center" in poses or center is choices[1]:
                poses["pose_center"] = [_round(value) for value in center]
            return poses | {"clearance": lowest}
    notes.to_check.append(
        f"start poses may touch the floor: at home the tip is below {lowest:g} m. Set world.pose_center and "
        "world.pose_spread"
    )
    return poses


def _find_floor(model: mujoco.MjModel) -> float | None:
    """Return the height of the highest horizontal plane that collides, in m; None without one."""
    heights = [
        float(model.geom_pos[number, 2])
        for number in range(model.ngeom)
        if model.geom_type[number] == mujoco.mjtGeom.mjGEOM_PLANE
        and not model.geom_bodyid[number]
        and (model.geom_contype[number] or model.geom_conaffinity[number])
        and np.allclose(model.geom_quat[number, 1:3], 0, atol=1e-3)
    ]
    return max(heights, default=None)


def _unit(kind: str) -> str:
    return "rad" if kind == "hinge" else "m"


def _round(value: float) -> float:
    return float(f"{value:.6g}")
