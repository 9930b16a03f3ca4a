"""Sensor inference: which sensors of a model a robot has beyond its joints."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import mujoco

from wm_robot.spec.sensors import GRAVITY, RESERVED_NAMES, SENSOR_KINDS
from wm_robot_sim.inference_notes import Notes, round_digits
from wm_robot_sim.model_quantities import quote_names
from wm_robot_sim.model_reader import list_names

FIELDS = {
    mujoco.mjtSensor.mjSENS_FRAMEQUAT: ("imu", "orientation"),
    mujoco.mjtSensor.mjSENS_GYRO: ("imu", "angular_velocity"),
    mujoco.mjtSensor.mjSENS_ACCELEROMETER: ("imu", "linear_acceleration"),
    mujoco.mjtSensor.mjSENS_FORCE: ("wrench", "force"),
    mujoco.mjtSensor.mjSENS_TORQUE: ("wrench", "torque"),
    mujoco.mjtSensor.mjSENS_VELOCIMETER: ("twist", "linear_velocity"),
    mujoco.mjtSensor.mjSENS_TOUCH: ("contact", "force"),
    mujoco.mjtSensor.mjSENS_RANGEFINDER: ("range", "range"),
}
"""Sensor of MuJoCo → kind of a sensor, and its field."""
NOISE = {
    "orientation": 0.002,
    "angular_velocity": 0.005,
    "linear_acceleration": 0.05,
    "linear_velocity": 0.02,
}
"""Field → assumed standard deviation, in its unit."""
NOISE_SHARE = 0.002
"""Assumed standard deviation of the other fields, as a share of their limit."""
MOST_WEIGHTS = 5.0
"""Assumed largest force, in weights of the robot."""
FARTHEST, FASTEST = 10.0, 5.0
"""Assumed limits of a distance in m, and of a speed in m/s."""


def infer_sensors(model: mujoco.MjModel, values: Mapping[str, Any], notes: Notes) -> list[dict[str, Any]]:
    """Infer the sensors of a robot from those of its model.

    Sensors of joints and of the whole model are left out: joints and base are observed anyway.

    Args:
        values: Spec of the robot as plain values.
    """
    joints = [list_names(model, mujoco.mjtObj.mjOBJ_JOINT).index(joint["name"]) for joint in values["joints"]]
    roots = set(model.body_rootid[model.jnt_bodyid[joints]].tolist())
    groups, nameless = _group_sensors(model, roots)
    if nameless:
        notes.to_check.append(
            f"left out, since their sites have no name: sensors {quote_names(nameless, 8)}. Name the sites in the "
            "model"
        )
    limits = _assume_limits(model, values, roots)
    taken = [joint["name"] for joint in values["joints"]] + list(RESERVED_NAMES)
    kinds = [kind for _, kind in groups]
    sensors: list[dict[str, Any]] = []
    for (site, kind), found in groups.items():
        wanted = kind if kind == "imu" and kinds.count(kind) == 1 else site
        if kind in ("contact", "range"):
            wanted = list(found.values())[0][0]
        name = _choose_name(wanted, kind, taken)
        taken.append(name)
        fields = [each for each in SENSOR_KINDS[kind].fields if each in found]
        sensor: dict[str, Any] = {"name": name, "kind": kind, "frame": site}
        if len(fields) < len(SENSOR_KINDS[kind].fields):
            sensor["fields"] = fields
        noise = {
            each: found[each][1] or NOISE.get(each, NOISE_SHARE * limits.get(each, 0.0)) for each in fields
        }
        sensor["noise"] = {each: round_digits(value) for each, value in noise.items()}
        if own := {each: found[each][2] or limits[each] for each in fields if each in limits}:
            sensor["limits"] = {each: round_digits(value) for each, value in own.items()}
        if kind == "range":
            # Its beam goes along z of its site; that of a sensor without source goes along x.
            sensor["source"] = found["range"][0]
        sensors.append(sensor)
    _add_notes(sensors, notes)
    return sensors


def _group_sensors(
    model: mujoco.MjModel, roots: Collection[int]
) -> tuple[dict[tuple[str, str], dict[str, tuple[str, float, float]]], list[str]]:
    """Group the sensors on the robot's sites by site and kind: name, noise and cutoff of each field.

    Args:
        roots: Root bodies of the robot.

    Returns:
        The groups, and the names of sensors whose site has no name.
    """
    groups: dict[tuple[str, str], dict[str, tuple[str, float, float]]] = {}
    nameless = []
    for number in range(model.nsensor):
        kind, site = mujoco.mjtSensor(model.sensor_type[number]), int(model.sensor_objid[number])
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_SENSOR, number) or ""
        is_on_site = model.sensor_objtype[number] == mujoco.mjtObj.mjOBJ_SITE
        if kind not in FIELDS or not is_on_site or model.body_rootid[model.site_bodyid[site]] not in roots:
            continue
        site_name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_SITE, site)
        if not site_name:
            nameless.append(name or f"(sensor {number})")
            continue
        what, field = FIELDS[kind]
        if what == "range" and (model.sensor_dim[number] != 1 or not name):
            continue
        key = (site_name, what)
        found = (name, float(model.sensor_noise[number]), float(model.sensor_cutoff[number]))
        groups.setdefault(key, {}).setdefault(field, found)
    # A rotation alone is no IMU: many models have one of a camera or a target.
    is_sensor = {key: set(found) != {"orientation"} for key, found in groups.items()}
    return {key: found for key, found in groups.items() if is_sensor[key]}, nameless


def _assume_limits(
    model: mujoco.MjModel, values: Mapping[str, Any], roots: Collection[int]
) -> dict[str, float]:
    """Return the limit of each field that has no natural one."""
    weight = MOST_WEIGHTS * GRAVITY * float(model.body_subtreemass[list(roots)].sum())
    return {
        "force": max(1.0, float(f"{weight:.2g}")),
        "torque": max(float(joint["effort"]) for joint in values["joints"]),
        "range": FARTHEST,
        "linear_velocity": float(values["base"]["linear_velocity"]) if "base" in values else FASTEST,
    }


def _choose_name(wanted: str, kind: str, taken: Sequence[str]) -> str:
    """Choose a name that ROS accepts and nothing else has."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", wanted).strip("_")
    if not re.match(r"[A-Za-z]", name):
        name = f"{kind}_{name}".strip("_")
    for candidate in (name, f"{name}_{kind}", *(f"{name}_{number}" for number in range(2, 10_000))):
        if candidate not in taken:
            return candidate
    raise AssertionError(f"no name is left for '{wanted}'")


def _add_notes(sensors: Sequence[Mapping[str, Any]], notes: Notes) -> None:
    if not sensors:
        return
    for kind in dict.fromkeys(sensor["kind"] for sensor in sensors):
        listed = [sensor for sensor in sensors if sensor["kind"] == kind]
        fields = dict.fromkeys(each for sensor in listed for each in sensor["noise"])
        notes.inferred.append(
            f"sensors of kind '{kind}': {quote_names([sensor['name'] for sensor in listed], 8)}, with "
            f"{', '.join(fields)}, from the sensors on sites of the model"
        )
    notes.assumed.append(
        "noise and limits of the sensors, where the model has no noise and no cutoff: moderate noise, forces up to "
        f"{MOST_WEIGHTS:g} weights of the robot, and distances up to {FARTHEST:g} m"
    )
    notes.to_check.append(
        f"the robot has {len(sensors)} sensors beyond its joints. Each is subscribed on its topic: before training, "
        "remove sensors from the spec that the real robot does not have, and set topic, rate and noise of the others"
    )
