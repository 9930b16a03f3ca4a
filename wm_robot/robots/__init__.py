"""Bundled robots: their specs and models, found by name or path."""

from difflib import get_close_matches
from pathlib import Path

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec

ROBOTS_FOLDER = Path(__file__).parent


def load_spec(name_or_path: str | Path) -> RobotSpec:
    """Read the spec of a bundled robot, by name, or of any YAML file.

    Raises:
        SpecError: If there is no such robot.
    """
    return RobotSpec.load(find_spec_path(name_or_path))


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
