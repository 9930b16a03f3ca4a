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
import numpy as np

from wm_robot.errors import SpecError
from wm_robot_sim.model_findings import PENETRATION
from wm_robot_sim.model_import import parse_model_file
from wm_robot_sim.model_quantities import quote_names
from wm_robot_sim.model_reader import list_names

READABLE = (".stl", ".obj", ".msh")
"""Endings of meshes that MuJoCo reads."""
FULL_EFFORT_ERROR = {"hinge": 0.1, "slide": 0.02}
"""Kind of a joint → distance from its target at which a servo gives its full effort, in rad (m)."""
FULL_EFFORT_SHARE = 0.2
"""Largest such distance, in widths of the joint's range."""
FASTEST_SERVO = 100.0
"""Largest natural frequency of a servo, in rad/s; armature is added to lighter joints."""
EFFORT_MARGIN = 3.0
"""Assumed effort limit, in largest loads by gravity."""
SMALLEST_EFFORT = 1.0
"""Of an assumed effort limit, in N m (N)."""
LOAD_POSES = 50


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
    inferred: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    to_check: list[str] = field(default_factory=list)


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
    additions = _add_servos(task, spec, limits)
    spec.compile()
    return ImportedUrdf(
        xml=_write_model(spec, additions, folder),
        velocities={name: velocity for name, (_, velocity) in limits.items() if velocity > 0},
        inferred=tuple(task.inferred),
        assumed=tuple(task.assumed),
        to_check=tuple(task.to_check),
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
    task.to_check += [
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
        task.to_check += [f"MuJoCo warns: {' '.join(str(each.message).split())}" for each in caught]
        cause = " ".join(str(first_error).split())
        if "visuals" in said:
            task.to_check.append(f"all visuals were dropped, since MuJoCo cannot read them: {cause}")
        if balance:
            task.to_check.append(
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


def _add_servos(
    task: _Import, spec: mujoco.MjSpec, limits: Mapping[str, tuple[float, float]]
) -> list[ElementTree.Element]:
    """Return a position servo for each joint that moves on its own, and exclusions of the contacts at rest."""
    model = spec.compile()
    home = _choose_home(model)
    inertias, loads = _measure_joints(model, home)
    names = list_names(model, mujoco.mjtObj.mjOBJ_JOINT)
    mimics = {
        joint.get("name", "") for joint in task.root.findall("joint") if joint.find("mimic") is not None
    }
    assumed, armatures, shown = [], [], []
    servos, contacts = ElementTree.Element("actuator"), ElementTree.Element("contact")
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for number, name in enumerate(names):
        joint, kind = spec.joint(name), _KINDS.get(int(model.jnt_type[number]))
        if kind is None or name in mimics:
            continue
        effort, _ = limits.get(name, (0.0, 0.0))
        if effort == 0:
            effort = float(f"{max(SMALLEST_EFFORT, EFFORT_MARGIN * loads[number]):.2g}")
            assumed.append(f"'{name}' {effort:g}")
        distance = FULL_EFFORT_ERROR[kind]
        if model.jnt_limited[number]:
            low, high = map(float, model.jnt_range[number])
            distance = min(distance, FULL_EFFORT_SHARE * (high - low))
        stiffness = effort / distance
        added = max(0.0, stiffness / FASTEST_SERVO**2 - inertias[number])
        if added:
            armatures.append(f"'{name}' {added:.2g}")
            joint.armature = joint.armature + added
        damping = 2 * math.sqrt(stiffness * (inertias[number] + added))
        ranges = {"forcerange": f"{-effort:g} {effort:g}"}
        if model.jnt_limited[number]:
            ranges["ctrlrange"] = f"{low:.9g} {high:.9g}"
        gains = {"kp": f"{stiffness:.6g}", "kv": f"{damping:.6g}"}
        ElementTree.SubElement(servos, "position", {"name": name, "joint": name, **gains, **ranges})
        # The limit is that of the motor now: worlds with weaker motors change it.
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
        shown.append(f"'{name}' kp {stiffness:.3g}, kv {damping:.3g}, ±{effort:.3g}")
    if not shown:
        raise SpecError(
            f"{task.path} has no joint of type revolute, continuous or prismatic; a robot needs one"
        )
    task.inferred.append(f"position servos, since a URDF has no actuators: {'; '.join(shown)}")
    task.assumed.append(
        "stiffness of the servos: full effort at 0.1 rad (0.02 m) from the target, or a fifth of the range where "
        "that is less; damping: about critical for the inertia at rest"
    )
    if assumed:
        task.assumed.append(
            f"effort limits in N m (N): {', '.join(assumed)}; the URDF has none, and they are {EFFORT_MARGIN:g} "
            f"times the largest load by gravity, at least {SMALLEST_EFFORT:g}"
        )
    if armatures:
        task.assumed.append(
            f"armature, the inertia of a motor behind its gear, in kg m² (kg): {', '.join(armatures)}; a URDF has "
            f"none, and without it the servos would be faster than {FASTEST_SERVO:g} rad/s"
        )
    if mimics:
        task.inferred.append(
            f"joints that mimic another, by an equality, without servo: {quote_names(sorted(mimics), 8)}"
        )
    for first, second in _find_contacts(task, model, home):
        ElementTree.SubElement(contacts, "exclude", {"body1": first, "body2": second})
    return [contacts, servos]


def _find_contacts(task: _Import, model: mujoco.MjModel, home: np.ndarray) -> list[tuple[str, str]]:
    """Find the pairs of bodies that are inside each other at rest: collision shapes are generous."""
    data = mujoco.MjData(model)
    data.qpos[:] = home
    mujoco.mj_forward(model, data)
    bodies = list_names(model, mujoco.mjtObj.mjOBJ_BODY)
    pairs = {
        (min(names), max(names))
        for contact in data.contact
        if contact.geom.min() >= 0 and -contact.dist > PENETRATION
        for names in [[bodies[model.geom_bodyid[geom]] for geom in contact.geom]]
    }
    if pairs:
        shown = ", ".join(f"{first}–{second}" for first, second in sorted(pairs)[:8])
        task.to_check.append(
            f"contacts between bodies that are inside each other at rest were excluded: {shown}"
            + (f" and {len(pairs) - 8} more" if len(pairs) > 8 else "")
        )
    return sorted(pairs)


def _choose_home(model: mujoco.MjModel) -> np.ndarray:
    """Return the zero pose, with joints whose range excludes zero in its middle, `nq`."""
    home: np.ndarray = model.qpos0.copy()
    for number in range(model.njnt):
        low, high = model.jnt_range[number]
        at = model.jnt_qposadr[number]
        if model.jnt_limited[number] and int(model.jnt_type[number]) in _KINDS and not low < home[at] < high:
            home[at] = (low + high) / 2
    return home


def _measure_joints(model: mujoco.MjModel, home: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the inertia of each joint at home in kg m² (kg), and its largest load by gravity in N m (N)."""
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    data.qpos[:] = home
    mujoco.mj_forward(model, data)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    dofs, at = model.jnt_dofadr, model.jnt_qposadr
    inertias, loads = np.diag(inertia)[dofs], np.abs(data.qfrc_bias[dofs])
    simple = np.isin(model.jnt_type, list(_KINDS))
    low, high = np.where(model.jnt_limited[:, None] == 1, model.jnt_range, [-np.pi, np.pi]).T
    for _ in range(LOAD_POSES):
        data.qpos[at[simple]] = rng.uniform(low, high)[simple]
        mujoco.mj_forward(model, data)
        loads = np.maximum(loads, np.abs(data.qfrc_bias[dofs]))
    return inertias, loads


def _write_model(spec: mujoco.MjSpec, additions: Sequence[ElementTree.Element], folder: Path) -> str:
    """Return the model as MJCF with further sections, and with its meshes relative to a folder."""
    root = ElementTree.fromstring(spec.to_xml())
    for mesh in root.iter("mesh"):
        if Path(mesh.get("file", "")).is_absolute():
            mesh.set("file", Path(relpath(mesh.get("file", ""), folder.resolve())).as_posix())
    root.extend(each for each in additions if len(each))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


_KINDS = {int(mujoco.mjtJoint.mjJNT_HINGE): "hinge", int(mujoco.mjtJoint.mjJNT_SLIDE): "slide"}
