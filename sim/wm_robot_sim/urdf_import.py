"""URDF import: a MuJoCo model with position servos from a URDF, and what had to be dropped or assumed."""

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from wm_robot.errors import SpecError
from wm_robot_sim.inference_notes import Notes
from wm_robot_sim.model_import import parse_model_file
from wm_robot_sim.model_quantities import quote_names
from wm_robot_sim.urdf_servos import add_servos

READABLE = (".stl", ".obj", ".msh")
"""Endings of meshes that MuJoCo reads."""


@dataclass(frozen=True, kw_only=True)
class ImportedUrdf:
    """MuJoCo model of a URDF as text, and sentences about it."""

    xml: str
    velocities: Mapping[str, float]
    """Joint → speed limit, in rad/s (m/s)."""
    inferred: tuple[str, ...]
    assumed: tuple[str, ...]
    to_check: tuple[str, ...]


@dataclass
class _Import:
    """A URDF that is being imported."""

    path: Path
    root: ElementTree.Element
    packages: Mapping[str, Path]
    meshes: dict[str, Path] = field(default_factory=dict)
    """Name that a mesh has for MuJoCo → its file. MuJoCo takes two files of one name for one."""
    scales: dict[str, str] = field(default_factory=dict)
    """Name of a mesh → its scale, as in the file."""
    notes: Notes = field(default_factory=Notes)


def parse_packages(given: Sequence[str]) -> dict[str, Path]:
    """Parse the folders of packages from `NAME=PATH`.

    Raises:
        SpecError: If one has another form, or its path is no folder.
    """
    packages = {}
    for text in given:
        name, mark, folder = text.partition("=")
        if not (name and mark and folder):
            raise SpecError(
                f"--package is '{text}'; it must be NAME=PATH, such as my_arm_description=../my_arm"
            )
        if not Path(folder).is_dir():
            raise SpecError(
                f"--package is '{text}', and {folder} is no folder. Give the folder of package {name}"
            )
        packages[name] = Path(folder)
    return packages


def import_urdf(path: Path, packages: Mapping[str, Path], folder: Path) -> ImportedUrdf:
    """Import a URDF as a MuJoCo model, and give each joint a position servo of its effort limit.

    Args:
        packages: Name → folder, for `package://` files.
        folder: Folder in which the model will be; meshes are named relative to it.

    Raises:
        SpecError: If the URDF cannot be read, or names files that are missing.
    """
    task = _Import(path, parse_model_file(path, "robot"), packages)
    if _is_xacro(task.root):
        raise SpecError(
            f"{path} is a xacro, not a URDF: it has expressions that xacro replaces. Run: xacro {path} > "
            f"{path.stem}.urdf, and give that file"
        )
    _check_links(task)
    limits = _read_limits(task)
    _resolve_meshes(task)
    spec = _parse(task)
    additions = add_servos(spec, task.root, task.path, limits, task.notes)
    spec.compile()
    return ImportedUrdf(
        xml=_write_model(spec, additions, folder),
        velocities={name: velocity for name, (_, velocity) in limits.items() if velocity > 0},
        inferred=tuple(task.notes.inferred),
        assumed=tuple(task.notes.assumed),
        to_check=tuple(task.notes.to_check),
    )


def _is_xacro(root: ElementTree.Element) -> bool:
    tags = any("xacro" in str(element.tag) for element in root.iter())
    return tags or any("${" in value for element in root.iter() for value in element.attrib.values())


def _check_links(task: _Import) -> None:
    """Refuse joints between links that do not exist; MuJoCo names the line of another text."""
    links = {link.get("name", "") for link in task.root.findall("link")}
    for tag in ("link", "joint"):
        names = [element.get("name", "") for element in task.root.findall(tag)]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise SpecError(
                f"{task.path}: {names.count(twice[0])} {tag}s are named '{twice[0]}'; each must have a name of its "
                "own. Rename them there"
            )
    for joint in task.root.findall("joint"):
        if not joint.get("name"):
            raise SpecError(f"{task.path}: a joint has no name; each must have one. Name it there")
        for end in ("parent", "child"):
            element = joint.find(end)
            name = "" if element is None else element.get("link", "")
            if name not in links:
                raise SpecError(
                    f"{task.path}: the {end} of joint '{joint.get('name')}' is '{name}'; it must be one of the links "
                    f"{quote_names(sorted(links), 12)}. Correct it there"
                )


def _read_limits(task: _Import) -> dict[str, tuple[float, float]]:
    """Read effort and speed limit of each joint, in N m (N) and rad/s (m/s); 0 for none."""
    limits = {}
    for joint in task.root.findall("joint"):
        limit, name = joint.find("limit"), joint.get("name", "")
        values = []
        for attribute in ("effort", "velocity"):
            text = "0" if limit is None else limit.get(attribute, "0")
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value) or value < 0:
                raise SpecError(
                    f"{task.path}: {attribute} of the limit of joint '{name}' is '{text}'; it must be a finite "
                    "number, 0 or above. Correct it there"
                )
            values.append(value)
        limits[name] = (values[0], values[1])
    return limits


def _resolve_meshes(task: _Import) -> None:
    """Give each mesh file a name of its own, and drop those that MuJoCo cannot read."""
    compiler = task.root.find("mujoco/compiler")
    meshdir = "" if compiler is None else compiler.get("meshdir", "")
    dropped: dict[str, list[str]] = {}
    for link in task.root.findall("link"):
        for kind in ("visual", "collision"):
            for shape in link.findall(kind):
                mesh = shape.find("geometry/mesh")
                if mesh is None:
                    continue
                place = f"{kind} of link '{link.get('name')}'"
                obstacle = _resolve_mesh(task, mesh, meshdir, place, is_visual=kind == "visual")
                if obstacle:
                    link.remove(shape)
                    effect = "" if kind == "visual" else " (it collides with nothing there)"
                    dropped.setdefault(obstacle, []).append(f"{place}{effect}")
    task.notes.to_check += [
        f"dropped, since {obstacle}: {', '.join(places[:4])}"
        + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        for obstacle, places in dropped.items()
    ]


def _resolve_mesh(
    task: _Import, mesh: ElementTree.Element, meshdir: str, place: str, *, is_visual: bool
) -> str:
    """Find the file of a mesh. Return why it must be dropped; empty if it is kept.

    Raises:
        SpecError: If its package is not given, or if it is no visual and its file is missing.
    """
    name = mesh.get("filename", "")
    if not name.lower().endswith(READABLE):
        return f"MuJoCo reads {', '.join(READABLE)}, and not '{Path(name).suffix or name}'"
    scheme, mark, rest = name.partition("://")
    if not mark:
        places = [task.path.parent / name, task.path.parent / meshdir / name]
        places += [task.path.parent / meshdir / Path(name).name]
    elif scheme == "file":
        places = [Path(rest)]
    elif scheme in ("package", "model"):
        package, _, inner = rest.partition("/")
        if package not in task.packages:
            raise SpecError(
                f"{task.path}: the {place} is '{name}', of a package whose folder is not given. Add --package "
                f"{package}=PATH"
            )
        places = [task.packages[package] / inner]
    else:
        raise SpecError(
            f"{task.path}: the {place} is '{name}'; it must be a path, package:// or file://. Correct it there"
        )
    found = next((each.resolve() for each in places if each.is_file()), None)
    if found is not None:
        mesh.set("filename", _name_mesh(task, found, mesh.get("scale", "")))
        return ""
    if is_visual:
        return f"there is no file {places[0]}"
    raise SpecError(
        f"{task.path}: the {place} is '{name}', and there is no file {places[0]}. Correct the path, or give the "
        "folder of its package with --package"
    )


def _name_mesh(task: _Import, file: Path, scale: str) -> str:
    """Return a name that no other file, and no other scale of the same file, has."""
    number, name = 1, file.name
    while task.meshes.setdefault(name, file) != file or task.scales.setdefault(name, scale) != scale:
        number += 1
        name = f"{file.stem}_{number}{file.suffix}"
    return name


def _parse(task: _Import) -> mujoco.MjSpec:
    """Parse the URDF with MuJoCo: with visuals, else without them, and with corrected inertias where it must be."""
    bare = copy.deepcopy(task.root)
    for link in bare.findall("link"):
        for shape in link.findall("visual"):
            link.remove(shape)
    first_error: ValueError | None = None
    for root, balance, said in (
        (task.root, False, ""),
        (task.root, True, "inertias"),
        (bare, False, "visuals"),
        (bare, True, "visuals and inertias"),
    ):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                spec = mujoco.MjSpec.from_string(_write_with_compiler(root))
                spec.compiler.balanceinertia = balance
                for mesh in spec.meshes:
                    mesh.file = str(task.meshes.get(mesh.file, mesh.file))
                spec.compile()
        except ValueError as error:
            first_error = first_error or error
            continue
        task.notes.to_check += [f"MuJoCo warns: {' '.join(str(each.message).split())}" for each in caught]
        cause = " ".join(str(first_error).split())
        if "visuals" in said:
            task.notes.to_check.append(f"all visuals were dropped, since MuJoCo cannot read them: {cause}")
        if balance:
            task.notes.to_check.append(
                f"inertias were made plausible (balanceinertia), since MuJoCo refuses them: {cause}"
            )
        return spec
    raise SpecError(
        f"MuJoCo cannot read {task.path}: {' '.join(str(first_error).split())}. Correct it there"
    ) from first_error


def _write_with_compiler(root: ElementTree.Element) -> str:
    """Return a URDF with the options of MuJoCo under which links and visuals are kept, and paths are whole."""
    root = copy.deepcopy(root)
    extension = root.find("mujoco")
    if extension is None:
        extension = ElementTree.SubElement(root, "mujoco")
    compiler = extension.find("compiler")
    if compiler is None:
        compiler = ElementTree.SubElement(extension, "compiler")
    compiler.attrib.pop("meshdir", None)
    compiler.attrib |= {"strippath": "false", "fusestatic": "false", "discardvisual": "false"}
    return ElementTree.tostring(root, encoding="unicode")


def _write_model(spec: mujoco.MjSpec, additions: Sequence[ElementTree.Element], folder: Path) -> str:
    """Return the model as MJCF with further sections, and with its meshes relative to a folder."""
    root = ElementTree.fromstring(spec.to_xml())
    for mesh in root.iter("mesh"):
        if Path(mesh.get("file", "")).is_absolute():
            mesh.set("file", Path(relpath(mesh.get("file", ""), folder.resolve())).as_posix())
    root.extend(each for each in additions if len(each))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
