"""Actuator inference: kinds and ranges of actuators, read off a model or assumed."""

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from wm_robot.robots.robot_model import ModelJoint, RobotModel
from wm_robot_sim.inference_notes import Notes, round_digits
from wm_robot_sim.joint_inference import VELOCITIES

SERVO_RANGES = {"hinge": np.pi, "slide": 0.5}
"""Kind of a joint → end of the range of a servo, where neither has one, in rad (m)."""
PERIODS_PER_RANGE = 4
"""Control periods in which a motor's command may cross its range."""


def infer_actuator(
    model: mujoco.MjModel,
    described: RobotModel,
    number: int,
    joint: ModelJoint,
    limits: Mapping[str, Sequence[float]],
    notes: Notes,
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
    values["range"] = [round_digits(low), round_digits(high)]
    values["rate"] = 1.0
    return values


def set_action_rates(values: dict[str, Any], notes: Notes) -> None:
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
        ends = sorted(round_digits(float(end) / gain) for end in model.actuator_forcerange[number])
        return ends[0], ends[1], "its forcerange over its gain"
    return -1.0, 1.0, "one unit of its gain"
