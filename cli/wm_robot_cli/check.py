"""Verbs `wm-robot check` and `wm-robot upgrade-spec`: a robot's spec against its model, and specs of version 1."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import MissingExtraError, SpecError
from wm_robot.io.durable import write_file
from wm_robot.robots import find_spec_path, find_stored_model, load_spec, read_stored_model
from wm_robot.robots.model_check import attach_model
from wm_robot.robots.robot_model import RobotModel
from wm_robot.spec import VERSION, RobotSpec, Sensor
from wm_robot_cli.robot_checks import EXIT_CHECK_FAILED, find_failures, print_checks, run_checks
from wm_robot_cli.tables import make_console, print_table
from wm_robot_cli.values import JsonFlag

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS_OF_UNITS = {"rad": "position", "1": "effort"}
"""Unit of an actuator in version 1 → its kind."""
SAFETY_NAMES = {
    "max_age": "max_age_periods",
    "surprise": "surprise_threshold",
    "surprises": "surprise_count_window",
    "misses": "missed_deadline_count_window",
    "cuts": "consecutive_violation_limit",
    "heartbeat": "heartbeat_timeout",
}
"""Name of a safety limit in version 1 → today's."""


def check_robot(
    robot: Annotated[str, tyro.conf.Positional], /, *, simulate: bool = False, as_json: JsonFlag = False
) -> None:
    """Compare a robot's spec with its model, and write what the model says to `NAME.model.json` beside the spec.

    A robot without MuJoCo takes its kinematics from there, and refuses a model file that changed since. Exit code 2:
    the spec contradicts its model; both values of each contradiction are shown. Exit code 3: a check in simulation
    failed.

    Args:
        robot: Name of the robot, or the path of its spec.
        simulate: Run the five checks in simulation too.
        as_json: Print JSON.
    """
    path = find_spec_path(robot)
    before = read_stored_model(path)
    spec, model = store_model(path)
    stored = find_stored_model(path)
    rows = [
        {
            "joint": joint.name,
            "kind": joint.kind,
            "range": "wraps" if joint.wraps else f"{joint.position[0]:g} … {joint.position[1]:g}",
            "actuators": ", ".join(f"{a.name} ({a.kind})" for a in spec.actuators if a.joint == joint.name)
            or "none",
        }
        for joint in spec.joints
    ]
    result = {
        "robot": spec.name,
        "model": spec.model,
        "digest": spec.compute_digest(),
        "model_digest": model.digest,
        "stored": str(stored),
        "changed": before != model.encode(),
        "chain": [link.joint for link in spec.chain],
        "sensors": [sensor.name for sensor in spec.sensors],
        "not_simulated": [sensor.name for sensor in list_unsimulated(spec)],
    }
    checks = run_checks(spec) if simulate else []
    if as_json:
        print(json.dumps({**result, "checks": checks} if simulate else result))
    else:
        _print_agreement(spec, model, rows, stored, changed=bool(result["changed"]))
        if simulate:
            print_checks(checks)
    if failures := find_failures(checks):
        print(f"{spec.name}: {failures}", file=sys.stderr)
        sys.exit(EXIT_CHECK_FAILED)


def _print_agreement(
    spec: RobotSpec, model: RobotModel, rows: list[dict[str, str]], stored: Path, *, changed: bool
) -> None:
    print_table(make_console(), rows)
    ways = " → ".join(link.joint for link in spec.chain)
    print(
        f"{spec.name} agrees with {spec.model}: {len(model.bodies)} bodies, "
        f"{sum(body.mass for body in model.bodies):.3g} kg"
    )
    if spec.base:
        print(f"floating base: {spec.base.body}, {spec.base.height:g} m high at home")
    print(f"chain to the tip: {ways or 'none'}")
    if spec.sensors:
        print_table(make_console(), [_describe_sensor(spec, sensor) for sensor in spec.sensors])
    for sensor in list_unsimulated(spec):
        print(
            f"sensor '{sensor.name}' has no source in {spec.model}: in simulation it reads {sensor.nominal:g} and "
            "noise, so a base learns nothing of it. Name a sensor of the model, as source: NAME"
        )
    print(f"{'wrote' if changed else 'unchanged:'} {stored}")


def _describe_sensor(spec: RobotSpec, sensor: Sensor) -> dict[str, str]:
    channels = spec.layout.find_sensor(sensor.name)
    return {
        "sensor": sensor.name,
        "kind": sensor.kind,
        "fields": ", ".join(sensor.fields),
        "channels": str(channels.stop - channels.start),
        "frame": sensor.frame or "none",
        "topic": sensor.topic,
        "rate": f"{sensor.rate or spec.rate:g} Hz",
        "needed": "required" if sensor.required else "optional",
    }


def list_unsimulated(spec: RobotSpec) -> list[Sensor]:
    """List the vectors and scalars that no sensor of the model supplies in simulation."""
    return [each for each in spec.sensors if each.kind in ("vector", "scalar") and not each.source]


def load_described_spec(robot: str) -> RobotSpec:
    """Read a robot's spec; where nothing is stored of its model yet, store it first.

    So a base that is trained belongs to this model, and to no other that the file may hold later.
    """
    path = find_spec_path(robot)
    if read_stored_model(path) is not None:
        return load_spec(path)
    spec, _ = store_model(path)
    print(f"wrote {find_stored_model(path)}: what {spec.model} says of the robot. Keep it beside the spec")
    return spec


def store_model(path: Path) -> tuple[RobotSpec, RobotModel]:
    """Read the model of a spec, compare both, and write the model beside the spec if it is not what is stored there.

    Raises:
        SpecError: If the spec contradicts the model, or declares dynamics that the model cannot show.
    """
    raw = RobotSpec.load(path)
    model = _import_describe_model()(raw)
    spec = attach_model(raw, model)
    _check_plant(spec)
    if read_stored_model(path) != model.encode():
        write_file(find_stored_model(path), model.encode())
    return spec, model


def upgrade_spec(file: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Upgrade a robot's spec of version 1 to the version of this program, in place.

    Args:
        file: YAML file of the spec.
    """
    import yaml

    text = file.read_text()
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(
            f"{file} is not valid YAML: {' '.join(str(error).split())}. Correct it there"
        ) from error
    if not isinstance(values, dict) or values.get("version", 1) != 1:
        raise SpecError(f"{file} is no spec of version 1; nothing to upgrade")
    upgraded = _upgrade_values(values)
    raw = RobotSpec.from_dict(upgraded, folder=file.parent)
    kinds = {joint.name: joint.kind for joint in _import_describe_model()(raw).joints}
    for joint in upgraded["joints"]:
        if kinds.get(joint["name"]) == "slide":
            joint["kind"] = "slide"
    new = _upgrade_text(text, [joint["name"] for joint in upgraded["joints"] if joint.get("kind") == "slide"])
    try:
        keeps_comments = yaml.safe_load(new) == upgraded
    except yaml.YAMLError:
        keeps_comments = False
    file.write_text(new if keeps_comments else yaml.safe_dump(upgraded, sort_keys=False))
    print(f"{file} has version {VERSION} now" + ("" if keeps_comments else "; its comments were lost"))
    print(f"next: wm-robot check {file}")


def _import_describe_model() -> "Callable[[RobotSpec], RobotModel]":
    try:
        from wm_robot_sim.plant import describe_model
    except ImportError as error:
        raise MissingExtraError("wm-robot check", "sim") from error
    return describe_model


def _check_plant(spec: RobotSpec) -> None:
    """Check what a simulation needs of a spec beyond its agreement with the model: rate, world and randomize."""
    from wm_robot_sim.model_compiler import compile_model
    from wm_robot_sim.plant import Plant

    Plant(spec, compile_model(spec))


def _upgrade_values(values: Mapping[str, Any]) -> dict[str, Any]:
    upgraded: dict[str, Any] = {"version": VERSION}
    for name, value in values.items():
        if name == "mjcf":
            upgraded["model"] = value
        elif name == "actuators":
            upgraded[name] = [_upgrade_actuator(actuator) for actuator in value]
        elif name == "joints":
            upgraded[name] = [dict(joint) for joint in value]
        elif name == "safety":
            upgraded[name] = {SAFETY_NAMES.get(limit, limit): number for limit, number in value.items()}
        else:
            upgraded[name] = value
    return upgraded


def _upgrade_actuator(actuator: Mapping[str, Any]) -> dict[str, Any]:
    unit = str(actuator.get("unit"))
    if unit not in KINDS_OF_UNITS:
        raise SpecError(
            f"actuator {dict(actuator)} has unit '{unit}'; version 1 has {sorted(KINDS_OF_UNITS)}"
        )
    return {("kind" if name == "unit" else name): (KINDS_OF_UNITS[unit] if name == "unit" else value)
            for name, value in actuator.items()}  # fmt: skip


def _upgrade_text(text: str, slides: list[str]) -> str:
    """Upgrade the text of a spec, with its comments, where it is written as ours are."""
    text = re.sub(r"^mjcf:", "model:", text, flags=re.M)
    for unit, kind in KINDS_OF_UNITS.items():
        text = re.sub(rf"""\bunit:\s*(["']?){re.escape(unit)}\1(?=\s*[,}}\n])""", f"kind: {kind}", text)
    for old, new in SAFETY_NAMES.items():
        text = re.sub(rf"^(\s+){old}:", rf"\1{new}:", text, flags=re.M)
    head, _, rest = text.partition("joints:")
    joints, mark, others = rest.partition("actuators:")
    for name in slides:
        joints = re.sub(rf"(\bname:\s*{re.escape(name)}\s*,)", r"\1 kind: slide,", joints)
    text = head + "joints:" + joints + mark + others
    return re.sub(r"^name:", f"version: {VERSION}\nname:", text, count=1, flags=re.M)
