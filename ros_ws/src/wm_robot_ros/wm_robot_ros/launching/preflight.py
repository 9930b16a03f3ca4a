"""Preflight check: all that the arguments of a graph name, such as robot and base, before a process starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import loads
from pathlib import Path

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError, SpecError, WmRobotError
from wm_robot.io.base_file import CARD, find_base
from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.recording.robot_topics import find_robots_with_actions, select_robot
from wm_robot.recording.session_file import read_topics
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.spec.sensor_difference import describe_sensor_difference
from wm_robot_ros.launching.launch_graph import ArgumentValue, LaunchGraph
from wm_robot_ros.middleware.sensor_messages import check_sensor_topics

BATTERY_PREFIX = "battery:"
"""Start of what is evaluated in place of a recording: the checks of `wm-robot validate`."""


@dataclass(frozen=True, kw_only=True)
class NamedValue:
    """Value of an argument, with the data to check it."""

    argument: str
    value: str
    spec: RobotSpec | None
    """Spec of the graph's robot; None if the graph names no robot."""
    values: Mapping[str, ArgumentValue]
    """Values of all arguments."""


def check_named_values(graph: LaunchGraph, values: Mapping[str, ArgumentValue]) -> None:
    """Check that all named things exist and fit together.

    Raises:
        WmRobotError: The error that a node would raise, with argument and value.
    """
    spec: RobotSpec | None = None
    # The robot first, because base and world are checked against it.
    for each in sorted(graph.arguments, key=lambda argument: argument.rules.get("names") != "robot"):
        value, kind = str(values[each.name]), each.rules.get("names", "")
        try:
            if kind == "robot":
                spec = load_spec(value)
                check_sensor_topics(spec)
            elif kind in VALUE_CHECKS:
                VALUE_CHECKS[kind](NamedValue(argument=each.name, value=value, spec=spec, values=values))
        except MissingExtraError:
            # This error already has the command to install the package, and no value caused it.
            raise
        except WmRobotError as error:
            raise type(error)(f"{each.name}:={value}: {error}") from error


def _check_base(named: NamedValue) -> None:
    """Check that the base exists and was made for this robot; the agent checks its weights."""
    if not named.value:
        raise ConfigError(
            "it must be the folder of a base, or the name of a base that ships. "
            f"Write {named.argument}:=arm-semiparametric"
        )
    card, spec = find_base(named.value) / CARD, named.spec
    try:
        told = loads(card.read_bytes())
        robot, digest = str(told["robot"]), str(told["spec_digest"])
        sensors = told.get("sensors", ())
        difference = describe_sensor_difference(sensors, spec, "the base") if spec is not None else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{card} is not a card of a base: {error}. Copy the base again") from error
    if spec is not None and digest != spec.compute_digest():
        then = (
            f" with an older spec ({digest[:12]}, now {spec.compute_digest()[:12]})"
            if robot == spec.name
            else ""
        )
        # The robot's own argument: the name of a spec is no path.
        given = named.values.get("robot", spec.name)
        own = Path("bases") / f"{spec.name}-{DEFAULT_MEMORY}"
        use = (
            f"use {named.argument}:={own}"
            if (own / CARD).is_file()
            else f"train it first: wm-robot train {given}"
        )
        raise SnapshotError(
            f"this base was trained for robot '{robot}'{then}; the robot is '{spec.name}'"
            + (f": {difference}" if difference else "")
            + f". Write robot:={robot}, or {use}"
        )


def _check_world(named: NamedValue) -> None:
    if named.spec is None:
        return
    # Imported here, because a graph for a real robot has no world and needs no simulator.
    from wm_robot_sim.world_parameter import parse_world

    try:
        parse_world(named.value, named.spec, seed=int(named.values.get("seed", 0)))
    except ConfigError as error:
        raise ConfigError(f"{error}. Write {named.argument}:=nominal, or correct the fields") from error


def _check_plant(named: NamedValue) -> None:
    if named.spec is None:
        return
    from wm_robot_sim.standins.catalog import parse_plant

    try:
        parse_plant(named.value, named.spec)
    except SpecError as error:
        raise SpecError(f"{error}. Write {named.argument}:=nominal, or name another one") from error


def _check_recording(named: NamedValue) -> None:
    for part in (each.strip() for each in named.value.split(",")):
        if part.startswith(BATTERY_PREFIX):
            continue
        if not part or not Path(part).exists():
            raise ConfigError(
                f"there is no recording '{part}'. Name an existing session or episode file, or record one: "
                f"wm-robot up sim record:={part or 'session.mcap'}"
            )


def _check_recorded_robot(named: NamedValue) -> None:
    """Check that the session has the robot, and that a robot is selected in a session with several."""
    for path in map(Path, str(named.values.get("recording", "")).split(",")):
        if not path.exists() or _holds_episodes(path):
            # The battery records its own robots.
            continue
        topics = read_topics(path)
        robots = find_robots_with_actions(topics)
        if not robots:
            # Raises an error with the missing topics.
            select_robot(topics, None, path)
        if named.value.strip("/") not in robots and (named.value or len(robots) != 1):
            choices = [f"{named.argument}:={robot}" for robot in robots]
            raise ConfigError(
                f"{path} has {len(robots)} robots, and not this one. Write {' or '.join(choices)}"
            )


def _holds_episodes(path: Path) -> bool:
    """Whether a recording is an episode file or a folder of them, and so of one robot."""
    return path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))


def _check_new_file(named: NamedValue) -> None:
    path = Path(named.value)
    if named.value and path.exists():
        another = path.with_stem(f"{path.stem}-2")
        raise ConfigError(
            f"the file exists already, and no recording is overwritten. Write {named.argument}:={another}"
        )


VALUE_CHECKS: Mapping[str, Callable[[NamedValue], None]] = {
    "base": _check_base,
    "plant": _check_plant,
    "world": _check_world,
    "recording": _check_recording,
    "recorded robot": _check_recorded_robot,
    "new file": _check_new_file,
}
"""Check of each kind of named thing; it raises an error for an invalid value."""
