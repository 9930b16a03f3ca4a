"""What the arguments of a graph name is looked for before a process starts: robot, base, world, files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import loads
from pathlib import Path

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError, WmRobotError
from wm_robot.io.base_file import CARD, find_base
from wm_robot.recording.robot_topics import robots_with_actions, select_robot
from wm_robot.recording.session_file import topics_in
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot_ros.launching.launch_graph import Graph, Value


@dataclass(frozen=True, kw_only=True)
class Named:
    """A value of an argument, and what it is checked with."""

    argument: str
    value: str
    spec: RobotSpec | None
    """Of the robot that the graph names, if it names one."""
    values: Mapping[str, Value]
    """Of all arguments."""


def check_named(graph: Graph, values: Mapping[str, Value]) -> None:
    """Refuse values that name what is not there, or what does not belong together.

    Raises:
        WmRobotError: Of the kind that a node would raise; it names argument and value.
    """
    spec: RobotSpec | None = None
    # A base and a world are of a robot, so that comes first.
    for each in sorted(graph.arguments, key=lambda argument: argument.rules.get("names") != "robot"):
        value, kind = str(values[each.name]), each.rules.get("names", "")
        try:
            if kind == "robot":
                spec = load_spec(value)
            elif kind in CHECKS:
                CHECKS[kind](Named(argument=each.name, value=value, spec=spec, values=values))
        except MissingExtraError:
            # It has the command that installs what is missing, and no value is at fault.
            raise
        except WmRobotError as error:
            raise type(error)(f"{each.name}:={value}: {error}") from error


def _check_base(named: Named) -> None:
    """Refuse a base that is not there, or is another robot's; its weights are checked by the agent."""
    if not named.value:
        raise ConfigError(
            f"it must be the folder of a base, or the name of one that ships. Write {named.argument}:=arm-ekf"
        )
    card, spec = find_base(named.value) / CARD, named.spec
    try:
        told = loads(card.read_bytes())
        robot, digest = str(told["robot"]), str(told["spec_digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{card} is no card of a base: {error}. Fetch it again") from error
    if spec is not None and digest != spec.digest():
        then = (
            f" as its spec was then ({digest[:12]}, now {spec.digest()[:12]})" if robot == spec.name else ""
        )
        raise SnapshotError(
            f"that base was trained for robot '{robot}'{then}; this robot is '{spec.name}'. "
            f"Write robot:={robot}, or make a base of it: wm-robot train {spec.name}"
        )


def _check_world(named: Named) -> None:
    if named.spec is None:
        return
    # A real robot has no world to check, and so needs no simulator.
    from wm_robot_sim.world_parameter import read_world

    try:
        read_world(named.value, named.spec, seed=int(named.values.get("seed", 0)))
    except ConfigError as error:
        raise ConfigError(f"{error}. Write {named.argument}:=nominal, or mend the fields") from error


def _check_recording(named: Named) -> None:
    for part in (each.strip() for each in named.value.split(",")):
        if not part or not Path(part).exists():
            raise ConfigError(
                f"there is no '{part}' to read. Name a session or episode file that is there, or record one: "
                f"wm-robot up sim record:={part or 'session.mcap'}"
            )


def _check_recorded_robot(named: Named) -> None:
    """Refuse a robot that a session does not tell of, and to choose one where it tells of several."""
    for path in map(Path, str(named.values.get("recording", "")).split(",")):
        if not path.exists() or _holds_episodes(path):
            continue
        topics = topics_in(path)
        robots = robots_with_actions(topics)
        if not robots:
            # Raises, with what it lacks.
            select_robot(topics, None, path)
        if named.value.strip("/") not in robots and (named.value or len(robots) != 1):
            choices = [f"{named.argument}:={robot}" for robot in robots]
            raise ConfigError(
                f"{path} tells of {len(robots)} robots, and not of that one. Write {' or '.join(choices)}"
            )


def _holds_episodes(path: Path) -> bool:
    """Whether a recording is an episode file or a folder of them, which are of one robot."""
    return path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))


def _check_new_file(named: Named) -> None:
    path = Path(named.value)
    if named.value and path.exists():
        another = path.with_stem(f"{path.stem}-2")
        raise ConfigError(
            f"it is there already, and no recording is written over. Write {named.argument}:={another}"
        )


CHECKS: Mapping[str, Callable[[Named], None]] = {
    "base": _check_base,
    "world": _check_world,
    "recording": _check_recording,
    "recorded robot": _check_recorded_robot,
    "new file": _check_new_file,
}
"""By what an argument names: raises what is wrong with it."""
