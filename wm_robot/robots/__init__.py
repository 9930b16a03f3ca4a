"""Robots: specs and what is known of their models, found by the name of a bundled robot or by path."""

from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path

from wm_robot.errors import SpecError
from wm_robot.robots.model_check import attach_model
from wm_robot.robots.model_files import find_model_file
from wm_robot.robots.robot_model import SUFFIX, RobotModel, find_changed_sources
from wm_robot.spec import RobotSpec

ROBOTS_FOLDER = Path(__file__).parent


MODEL_READERS = "wm_robot.model_readers"
"""Group of entry points: functions that read a spec's model file. The simulator package has one."""


def load_spec(name_or_path: str | Path) -> RobotSpec:
    """Read the spec of a bundled robot, by name, or of any YAML file, and compare it with what is known of its model.

    Raises:
        SpecError: If there is no such robot, or if the spec contradicts its model, or if the model file changed.
    """
    path = find_spec_path(name_or_path)
    return attach_stored_model(RobotSpec.load(path), path, read_stored_model(path))


def attach_stored_model(spec: RobotSpec, path: Path, content: bytes | None) -> RobotSpec:
    """Return a spec with the kinematics of the model that is stored beside it; without one, the spec as it is.

    Args:
        path: File of the spec.
        content: From `read_stored_model`.

    Raises:
        SpecError: If the spec contradicts the model or needs it, or if the model file changed since.
    """
    stored = find_stored_model(path)
    if content is None:
        if spec.tip_name:
            raise SpecError(
                f"{path} names the tip '{spec.tip_name}' of its model, and there is no {stored.name} beside it. "
                f"Run: wm-robot check {path}"
            )
        return spec
    model = RobotModel.parse(content, stored)
    _check_sources(spec, model, path)
    return attach_model(spec, model)


def find_stored_model(path: Path) -> Path:
    """Return the path of the stored model beside a spec's file."""
    return path.with_name(path.stem + SUFFIX)


def read_stored_model(path: Path) -> bytes | None:
    """Return the content of the stored model beside a spec's file; None without one."""
    stored = find_stored_model(path)
    return stored.read_bytes() if stored.is_file() else None


def _check_sources(spec: RobotSpec, model: RobotModel, path: Path) -> None:
    """Refuse a model file that behaves otherwise than the stored model.

    Files with the same bytes are the same model. Others are read again where MuJoCo is installed: a comment or the
    name of a mesh changes nothing.
    """
    try:
        folder = find_model_file(spec).parent
    except SpecError:
        # A robot needs no model file: then there is none that could have changed.
        return
    changed = find_changed_sources(model, folder)
    if not changed:
        return
    readers = [entry.load() for entry in entry_points(group=MODEL_READERS)]
    if any(read(spec).digest == model.digest for read in readers):
        return
    why = (
        "it behaves otherwise"
        if readers
        else "no MuJoCo is installed here to tell whether it behaves as before"
    )
    raise SpecError(
        f"{', '.join(changed)} of robot '{spec.name}' changed since {find_stored_model(path).name} was written, and "
        f"{why}. Run where MuJoCo is installed: wm-robot check {path}"
    )


def find_spec_path(name_or_path: str | Path) -> Path:
    """Find the path of a robot's spec; see `load_spec`."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = ROBOTS_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in ROBOTS_FOLDER.glob("*.yaml"))
        close = get_close_matches(str(name_or_path), known, n=1)
        guess = f"Did you mean '{close[0]}'? " if close else ""
        raise SpecError(f"there is no robot '{name_or_path}'. {guess}Use one of {known}, or give a YAML file")
    return path
