"""Verb `wm-robot new`: writes the spec of a robot from its MJCF or URDF, and checks it in simulation."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError, MissingExtraError, SpecError
from wm_robot.io.durable import write_file
from wm_robot.robots import find_stored_model, load_spec
from wm_robot.spec import RobotSpec
from wm_robot_cli.output_folder import check_writable
from wm_robot_cli.robot_checks import EXIT_CHECK_FAILED, find_failures, print_checks, run_checks
from wm_robot_cli.values import JsonFlag, Rate

if TYPE_CHECKING:
    from wm_robot_sim.robot_inference import InferredRobot

ROBOT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
SECTION_COMMENTS = {
    "rate": "Control rate, in Hz; a divisor of the physics rate.",
    "model": "Relative to this file, or PACKAGE:PATH.",
    "joints": "Ranges in rad (m for a slide), velocity in rad/s (m/s), effort in N m (N).",
    "actuators": "Actions; rate is the fastest change, in units per second.",
    "tip": "Gripper point: a site or body of the model. The kinematics are read off the model.",
    "sensors": "Sensors beyond the joints, by kind and frame. See docs/spec.md.",
    "safety": "Rest position of each joint. See docs/safety.md for limits of the gate.",
    "tasks": "See docs/add_a_task.md for other rewards.",
    "world": "What varies between simulated robots. Factors are drawn log-uniformly.",
}
"""Section of a spec → comment above it."""


def create_robot(
    name: Annotated[str, tyro.conf.Positional],
    /,
    *,
    mjcf: Path | None = None,
    urdf: Path | None = None,
    rate: Rate | None = None,
    tip: str = "",
    package: tuple[str, ...] = (),
    out: Path = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Write the spec of a robot from its model, and check it in simulation.

    Writes NAME.yaml, the spec with a first task; NAME.model.json, what the model says; and NAME.md: what was
    inferred, what was assumed, and what to check. The model file stays where it is. Exit code 3: a check in
    simulation failed; the files are written all the same.

    Args:
        name: Name of the robot: letters, digits and '_'.
        mjcf: MuJoCo model file, with its includes and assets.
        urdf: URDF file. NAME.xml is written too, a MuJoCo model with position servos from the effort limits.
        rate: Control rate, in Hz. Default: the rate nearest to 50 that the physics step divides.
        tip: Site or body that is the gripper point. Default: chosen by its name, or the end of the longest chain.
        package: Folders of the packages of a URDF, as NAME=PATH, for its package:// files.
        out: Folder for the files.
        as_json: Print JSON.
    """
    _check_arguments(name, mjcf, urdf, package, out)
    path = out / f"{name}.yaml"
    # Before the model is named relative to it.
    out.mkdir(parents=True, exist_ok=True)
    inferred = _infer(name, mjcf, urdf, rate, tip, package, out)
    # The digests of the model's files are read from the spec as it is written.
    spec = RobotSpec.from_dict(inferred.values, folder=out)
    stored = _describe(spec)
    write_file(path, _write_spec(inferred.values).encode())
    write_file(find_stored_model(path), stored)
    spec = load_spec(path)
    checks = run_checks(spec)
    notes = path.with_suffix(".md")
    write_file(notes, _write_notes(inferred, checks, path).encode())
    failures = find_failures(checks)
    written = [str(path), str(find_stored_model(path)), str(notes)]
    if urdf:
        written.append(str(path.with_suffix(".xml")))
    if as_json:
        counts = {
            "joints": len(spec.joints),
            "actuators": spec.action_dim,
            "rate": spec.rate,
            "tip": spec.tip_name,
            "sensors": len(spec.sensors),
        }
        notes_of = {"inferred": inferred.inferred, "assumed": inferred.assumed, "to_check": inferred.to_check}
        tasks = {"tasks": sorted(spec.tasks)}
        print(
            json.dumps({"robot": name, "written": written, **counts, **tasks, **notes_of, "checks": checks})
        )
    else:
        _print_result(spec, inferred, checks, written)
    if failures:
        print(f"{name}: {failures}. The files are kept. Correct them, then: wm-robot check {path} --simulate",
              file=sys.stderr)  # fmt: skip
        sys.exit(EXIT_CHECK_FAILED)


def _check_arguments(
    name: str, mjcf: Path | None, urdf: Path | None, package: Sequence[str], out: Path
) -> None:
    if not ROBOT_NAME.fullmatch(name):
        raise ConfigError(
            f"NAME is '{name}'; it must start with a letter, and have letters, digits and '_' only, since files and "
            "ROS topics are named after it"
        )
    if (mjcf is None) == (urdf is None):
        given = "both are given" if mjcf else "neither is given"
        raise ConfigError(f"wm-robot new needs --mjcf FILE or --urdf FILE, and {given}. Give one of them")
    if package and mjcf:
        raise ConfigError(
            f"--package is {' '.join(package)}; it is for package:// files of a URDF. Leave it out"
        )
    check_writable(out, "--out")
    suffixes = (".yaml", ".md", ".model.json", *((".xml",) if urdf else ()))
    existing = [path for path in (out / f"{name}{suffix}" for suffix in suffixes) if path.exists()]
    if existing:
        raise ConfigError(
            f"{existing[0]} exists already, and would be overwritten. Choose another name or --out FOLDER, "
            "or remove it"
        )


def _infer(
    name: str,
    mjcf: Path | None,
    urdf: Path | None,
    rate: float | None,
    tip: str,
    package: Sequence[str],
    out: Path,
) -> "InferredRobot":
    try:
        from wm_robot_sim.model_import import read_mjcf_source
        from wm_robot_sim.robot_inference import infer_robot
        from wm_robot_sim.urdf_import import import_urdf, parse_packages
    except ImportError as error:
        raise MissingExtraError("wm-robot new", "sim") from error
    if mjcf is not None:
        return infer_robot(read_mjcf_source(mjcf, out), name=name, folder=out, rate=rate, tip=tip)
    assert urdf is not None
    imported, model = import_urdf(urdf, parse_packages(package), out), out / f"{name}.xml"
    write_file(model, imported.xml.encode())
    try:
        read = read_mjcf_source(model, out)
        source = replace(
            read,
            velocities=imported.velocities,
            inferred=imported.inferred,
            assumed=imported.assumed,
            to_check=imported.to_check + read.to_check,
        )
        return infer_robot(source, name=name, folder=out, rate=rate, tip=tip)
    except SpecError:
        # The same command again would find this file in its way.
        model.unlink()
        raise


def _describe(spec: RobotSpec) -> bytes:
    from wm_robot_sim.plant import describe_model

    return describe_model(spec).encode()


def _write_spec(values: Mapping[str, Any]) -> str:
    """Return the text of a spec, with a comment above each section."""
    lines = [
        f"# {values['name']}, from {values['model']} by wm-robot new. {values['name']}.md says what was assumed.",
        f"# After a change here or in the model: wm-robot check {values['name']}.yaml",
    ]
    for section, value in values.items():
        if section in SECTION_COMMENTS:
            lines.append(f"# {SECTION_COMMENTS[section]}")
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [f"{section}:", *(f"  - {_write_flow(each)}" for each in value)]
        elif isinstance(value, Mapping):
            lines += [f"{section}:", *(f"  {name}: {_write_flow(each)}" for name, each in _quote_keys(value))]
        else:
            lines.append(f"{section}: {_write_flow(value)}")
    return "\n".join(lines) + "\n"


def _quote_keys(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(_write_flow(name), value) for name, value in values.items()]


def _write_flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _write_notes(inferred: "InferredRobot", checks: Sequence[Mapping[str, str]], path: Path) -> str:
    """Return the text of NAME.md."""
    name = inferred.values["name"]
    sections = (
        ("What to check", inferred.to_check, "Nothing was found."),
        ("What was assumed", inferred.assumed, "Nothing."),
        ("What was inferred", inferred.inferred, "Nothing beyond the joints and actuators."),
    )
    lines = [
        f"# {name}",
        "",
        f"Written by `wm-robot new` from `{inferred.values['model']}`. Everything here can be changed in "
        f"`{path.name}`. Afterwards run the commands at the end of this page.",
    ]
    for title, sentences, nothing in sections:
        lines += ["", f"## {title}", ""]
        lines += [f"- {sentence[0].upper()}{sentence[1:]}." for sentence in sentences] or [nothing]
    lines += ["", "## Checks in simulation", "", "| check | result | measured |", "|---|---|---|"]
    cells = [[text.replace("|", "\\|") for text in check.values()] for check in checks]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    lines += [
        "",
        "## Next",
        "",
        "```bash",
        f"wm-robot check {path.name} --simulate    # after every change of the spec or the model",
        f"wm-robot train {path.name} --all",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _print_result(
    spec: RobotSpec, inferred: "InferredRobot", checks: Sequence[Mapping[str, str]], written: Sequence[str]
) -> None:
    chain = f"{len(spec.chain)} joints to the tip '{spec.tip_name}'" if spec.chain else "no tip"
    print(
        f"{spec.name}: {len(spec.joints)} joints, {spec.action_dim} actuators, {spec.rate:.6g} Hz, {chain}; "
        f"first task: {', '.join(spec.tasks)}"
    )
    print_checks(checks)
    for sentence in inferred.to_check[:5]:
        print(f"check: {sentence}")
    more = len(inferred.to_check) - 5
    notes = next(name for name in written if name.endswith(".md"))
    print(
        (f"and {more} more to check; " if more > 0 else "")
        + f"{len(inferred.assumed)} values were assumed: see {notes}"
    )
    print(f"wrote {', '.join(written)}")
    print(f"next: wm-robot train {written[0]}")
