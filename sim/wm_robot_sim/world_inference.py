"""World inference: moderate ranges of what a model can show."""

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from wm_robot.robots.robot_model import RobotModel
from wm_robot.spec import RobotSpec
from wm_robot_sim.inference_notes import Notes, round_digits
from wm_robot_sim.joint_inference import UNLIMITED
from wm_robot_sim.plant import Plant
from wm_robot_sim.reachable_poses import compute_gripper_positions

POSE_SPREADS = {"hinge": np.pi, "slide": 0.3}
"""Kind of a joint without range → largest distance of start poses from home, in rad (m)."""
BASE_SPREAD = 0.15
"""Largest distance of start poses from home where the base floats, in widths of a range."""
FACTORS = {
    "mass": [0.8, 1.25],
    "gain": [0.7, 1.4],
    "torque": [0.8, 1.2],
    "friction": [0.5, 2.0],
    "damping": [0.7, 1.4],
}
"""Range of `world:` → its moderate values."""
BIAS_SHARE = 0.002
"""Largest bias of a position sensor, in widths of the narrowest range."""
PAYLOAD_SHARE = 0.1
"""Largest payload, in masses of the links that move."""
CLEARANCE = 0.02
"""Lowest height of the tip above a floor in start poses, in m."""


def infer_world(
    model: mujoco.MjModel, spec: RobotSpec, described: RobotModel, home: Mapping[str, float], notes: Notes
) -> dict[str, Any]:
    """Return moderate ranges of what the model can show."""
    plant = Plant(spec, model)
    lacking = {each.factor: each for each in plant.missing_quantities if each.is_missing.any()}
    world: dict[str, Any] = {name: list(pair) for name, pair in FACTORS.items() if name not in lacking}
    for factor, missing in lacking.items():
        names = spec.action_names if missing.element == "actuator" else spec.joint_names
        notes.inferred.append(f"world has no {factor}: the model has {missing.describe_elements(names)}")
    # One number is for all joints, and a finger moves by millimetres.
    narrowest = float(np.diff(spec.pose_limits).min())
    world |= {
        "bias": round_digits(min(0.003, BIAS_SHARE * narrowest)),
        "position_noise": round_digits(min(0.0005, BIAS_SHARE / 5 * narrowest)),
        "velocity_noise": 0.01,
        "delay": [0, max(1, plant.substeps // 2)],
    }
    if "gain" not in lacking:
        world |= {"fault_counts": [0.8, 0.2], "faults": {"weak": {"chance": 1.0, "range": [0.3, 0.6]}}}
    if has_gravity(model):
        world["tilt"] = 0.03
    if spec.base:
        world |= _infer_payload(model, spec.base.body, described)
    elif spec.tip_name:
        world |= _infer_payload(model, described.find_point(spec.tip_name)[0], described)
    world |= _infer_start_poses(model, spec, home, notes)
    notes.assumed.append(
        f"what varies between worlds: {', '.join(world)}; the values under world are moderate, and yours to set"
    )
    return world


def has_gravity(model: mujoco.MjModel) -> bool:
    return bool(model.opt.gravity.any()) and not (
        model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    )


def _infer_payload(model: mujoco.MjModel, body: str, described: RobotModel) -> dict[str, Any]:
    number = [each.name for each in described.bodies].index(body) + 1
    root = model.body_rootid[number]
    moving = model.body_mass[(model.body_rootid == root) & (model.body_treeid >= 0)].sum()
    most = float(f"{PAYLOAD_SHARE * moving:.2g}")
    if body.startswith("(") or model.body_treeid[number] < 0 or most <= 0:
        return {}
    return {"payload": [0.0, most], "payload_body": body, "payload_chance": 0.6}


def _infer_start_poses(
    model: mujoco.MjModel, spec: RobotSpec, home: Mapping[str, float], notes: Notes
) -> dict[str, Any]:
    """Return where start poses are: about home where a range is assumed, and above the floor."""
    limits, poses = spec.pose_limits, {}
    width = np.diff(limits)[:, 0]
    endless = (width >= 2 * UNLIMITED) | [joint.wraps for joint in spec.joints]
    if spec.base:
        # About a stance: in the middle of all ranges few robots stand.
        return {
            "pose_center": [round_digits(home[name]) for name in spec.joint_names],
            "pose_spread": [
                round_digits(float(each)) for each in np.minimum(BASE_SPREAD * width, POSE_SPREADS["hinge"])
            ],
        }
    if endless.any():
        kinds = [joint.kind for joint in spec.joints]
        spread = np.where(endless, [POSE_SPREADS[kind] for kind in kinds], width / 3)
        center = np.where(endless, [home[name] for name in spec.joint_names], limits.mean(1))
        poses = {
            "pose_center": [round_digits(v) for v in center],
            "pose_spread": [round_digits(v) for v in spread],
        }
    floor = _find_floor(model)
    if floor is None or not spec.chain:
        return poses
    lowest = round_digits(floor + CLEARANCE)
    choices = [
        np.array(poses.get("pose_center", limits.mean(1))),
        np.array([home[n] for n in spec.joint_names]),
    ]
    for center in choices:
        if compute_gripper_positions(spec, center[None])[0, 2] >= lowest + 1e-6:
            if "pose_center" in poses or center is choices[1]:
                poses["pose_center"] = [round_digits(value) for value in center]
            return poses | {"clearance": lowest}
    notes.to_check.append(
        f"start poses may touch the floor: at home the tip is below {lowest:g} m. Set world.pose_center and "
        "world.pose_spread"
    )
    return poses


def find_ground(model: mujoco.MjModel) -> bool:
    """Find whether any geom that is fixed in the world collides."""
    is_fixed = model.body_weldid[model.geom_bodyid] == 0
    return bool((is_fixed & ((model.geom_contype != 0) | (model.geom_conaffinity != 0))).any())


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
