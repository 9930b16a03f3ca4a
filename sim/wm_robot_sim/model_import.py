"""Model import: a model file of a user, compiled as MuJoCo reads it, with errors that name file, place and remedy."""

import sys
import warnings
from importlib.util import find_spec
from os.path import relpath
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot_sim.model_reader import list_names
from wm_robot_sim.plant import list_sources
from wm_robot_sim.robot_inference import ModelSource

ROOTS = {"mujoco": "--mjcf", "robot": "--urdf"}
"""Root element of a model file → option that reads it."""


def read_mjcf_source(path: Path, folder: Path) -> ModelSource:
    """Compile an MJCF file with all that it includes.

    Args:
        folder: Folder of the spec that will name it.

    Raises:
        SpecError: If it cannot be read or compiled.
    """
    parse_model_file(path, "mujoco")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = mujoco.MjSpec.from_file(str(path)).compile()
        list_sources(path)
    except (ValueError, ElementTree.ParseError) as error:
        raise SpecError(
            f"MuJoCo cannot compile {path}: {' '.join(str(error).split())}. It must be a model that MuJoCo compiles: "
            f"correct it there, and try: python -m mujoco.viewer --mjcf={path}"
        ) from error
    _check_numbers(model, path)
    said = tuple(f"MuJoCo warns: {' '.join(str(each.message).split())}" for each in caught)
    return ModelSource(model=model, reference=name_model_file(path, folder), path=path, to_check=said)


def _check_numbers(model: mujoco.MjModel, path: Path) -> None:
    """Refuse a model with numbers that are none, or too large to compute with.

    Raises:
        SpecError: If there is one.
    """
    for quantity in dir(model):
        values = None if quantity.startswith("_") else getattr(model, quantity)
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or not values.size:
            continue
        part, _, attribute = quantity.partition("_")
        # Boxes about planes are larger than any number of a robot.
        largest = mujoco.mjMAXVAL if part in _NAMED_PARTS else np.finfo(float).max
        # The comparison is false for NaN.
        wrong = np.argwhere(~(np.abs(values) <= largest))
        if len(wrong):
            number = int(wrong[0][0])
            names = list_names(model, _NAMED_PARTS[part]) if part in _NAMED_PARTS else []
            name = f"'{names[number]}'" if number < len(names) else f"number {number}"
            raise SpecError(
                f"{path}: {attribute or quantity} of {part} {name} is {values[tuple(wrong[0])]:g}; it must be a "
                f"number within ±{mujoco.mjMAXVAL:g}. Correct it there"
            )


def _check_numbers_of_text(root: ElementTree.Element, path: Path) -> None:
    """Refuse numbers that are none: MuJoCo takes some of them for an attribute that is not given.

    Raises:
        SpecError: If there is one.
    """
    for element in root.iter():
        for attribute, text in element.attrib.items():
            try:
                numbers = [float(word) for word in text.split()]
            except ValueError:
                continue
            if attribute != "name" and not np.isfinite(numbers).all():
                name = f" '{element.get('name')}'" if element.get("name") else ""
                raise SpecError(
                    f"{path}: {attribute} of {element.tag}{name} is '{text}'; it must be finite numbers. Correct it "
                    "there"
                )


_NAMED_PARTS = {
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "jnt": mujoco.mjtObj.mjOBJ_JOINT,
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
    "site": mujoco.mjtObj.mjOBJ_SITE,
}
"""Beginning of the name of a quantity → kind of the parts that have it."""


def parse_model_file(path: Path, root: str) -> ElementTree.Element:
    """Parse a model file as XML, and check its root element.

    Args:
        root: Expected root element, of `ROOTS`.

    Raises:
        SpecError: If the file cannot be read, is no XML, or is of another kind.
    """
    option = ROOTS[root]
    try:
        element = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise SpecError(
            f"{option} is {path}, which cannot be read: {error.strerror}. Give the path of a model file"
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise SpecError(
            f"{path} is not valid XML: {error}. It must be a model file with the root element <{root}>: correct it "
            "there"
        ) from error
    if element.tag == root:
        _check_numbers_of_text(element, path)
        return element
    other = ROOTS.get(element.tag)
    remedy = f"Read it with {other} {path}" if other else "Give a model file"
    raise SpecError(
        f"{path} has the root element <{element.tag}>; {option} reads files with <{root}>. {remedy}"
    )


def name_model_file(path: Path, folder: Path) -> str:
    """Return how a spec in a folder names a model file: relative to it, or `PACKAGE:PATH` for an installed package.

    Raises:
        SpecError: If the path contains a colon, which separates package and path.
    """
    path = path.resolve()
    for site in {
        Path(entry).resolve() for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")
    }:
        if site not in path.parents:
            continue
        package, *inner = path.relative_to(site).parts
        found = find_spec(package) if package.isidentifier() and inner else None
        places = [Path(each).resolve() for each in (found and found.submodule_search_locations) or ()]
        if places[:1] == [site / package]:
            return f"{package}:{Path(*inner).as_posix()}"
    name = Path(relpath(path, folder.resolve())).as_posix()
    if ":" in name:
        raise SpecError(
            f"the model file is {path}; its path from {folder} must have no ':'. Rename it, or move it"
        )
    return name
