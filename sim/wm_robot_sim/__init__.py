"""Robots in MuJoCo: specs, randomised worlds, batched rollouts, lifetimes of experience."""

from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from wm_robot.errors import MissingExtraError, SpecError
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from wm_robot_sim.robot import SimRobot
    from wm_robot_sim.worlds import World

ROBOTS = Path(__file__).parent / "robots"


def load_spec(name_or_path: str | Path) -> RobotSpec:
    """The spec of a robot that ships here, by name, or of any YAML file.

    Raises:
        SpecError: If there is no such robot.
    """
    return RobotSpec.load(spec_path(name_or_path))


def spec_path(name_or_path: str | Path) -> Path:
    """Where the spec of a robot lies; see `load_spec`."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = ROBOTS / f"{name_or_path}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in ROBOTS.glob("*.yaml"))
        close = get_close_matches(str(name_or_path), known, n=1)
        guess = f"Did you mean '{close[0]}'? " if close else ""
        raise SpecError(f"there is no robot '{name_or_path}'. {guess}Known are {known}, or give a YAML file")
    return path


def make_robot(robot: str | Path | RobotSpec, world: "World | None" = None, *, seed: int) -> "SimRobot":
    """A robot ready to run.

    Args:
        robot: Name, path or spec.
        world: World that it starts in; nominal without one.

    Raises:
        SpecError: If there is no such robot.
        MissingExtraError: If MuJoCo is not installed.
    """
    if find_spec("mujoco") is None:
        raise MissingExtraError("wm_robot_sim", "sim")
    # A spec can be read without MuJoCo; only a robot needs it.
    from wm_robot_sim.robot import SimRobot

    return SimRobot(robot if isinstance(robot, RobotSpec) else load_spec(robot), world, seed=seed)
