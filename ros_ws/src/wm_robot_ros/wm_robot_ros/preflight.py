"""What the arguments of a graph name is looked for before a process starts: robot, base, world, files."""

from collections.abc import Callable, Mapping
from json import loads
from pathlib import Path
from typing import Any

from wm_robot.errors import ConfigError, SnapshotError, WmRobotError
from wm_robot.io.base_file import CARD, find_base
from wm_robot.spec import RobotSpec
from wm_robot_ros.graph import Argument, Graph, Value
from wm_robot_ros.world_text import read_world
from wm_robot_sim import load_spec


def check_named(graph: Graph, values: Mapping[str, Value]) -> None:
    """Refuse values that name what is not there, or what does not belong together.

    Raises:
        WmRobotError: Of the kind that a node would raise; it names argument and value.
    """
    spec: RobotSpec | None = None
    # A base and a world are of a robot, so that comes first.
    for each in sorted(graph.arguments, key=lambda argument: argument.rules.get("names") != "robot"):
        value = str(values[each.name])
        look = CHECKS.get(each.rules.get("names", ""))
        try:
            if each.rules.get("names") == "robot":
                spec = load_spec(value)
            elif look:
                look(value, spec, values)
        except WmRobotError as error:
            raise type(error)(f"{each.name}:={value}: {error}{_remedy(each, value)}") from error


def _check_base(folder: str, spec: RobotSpec | None, values: Mapping[str, Value]) -> None:
    """Refuse a base that is not there, or is another robot's; its weights are checked by the agent."""
    if not folder:
        raise ConfigError("it must be the folder of a base, or the name of one that ships")
    found = find_base(folder)
    try:
        card = loads((found / CARD).read_bytes())
        robot, digest = str(card["robot"]), str(card["spec_digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{found / CARD} is no card of a base: {error}. Fetch it again") from error
    if spec is not None and digest != spec.digest():
        one_name = f", as its spec was then ({digest[:12]}, now {spec.digest()[:12]})"
        raise SnapshotError(
            f"that base was trained for robot '{robot}'{one_name if robot == spec.name else ''}; "
            f"this robot is '{spec.name}'. Write robot:={robot}, or make a base of it: wm-robot train {spec.name}"
        )


def _check_world(text: str, spec: RobotSpec | None, values: Mapping[str, Value]) -> None:
    if spec is not None:
        read_world(text, spec, seed=int(values.get("seed", 0)))


def _check_recording(text: str, spec: RobotSpec | None, values: Mapping[str, Value]) -> None:
    for part in (each.strip() for each in text.split(",")):
        if not part or not Path(part).exists():
            raise ConfigError(
                f"there is no '{part}' to read. Name a session or episode file that is there, or record one: "
                f"wm-robot up sim record:={part or 'session.mcap'}"
            )


def _check_new_file(text: str, spec: RobotSpec | None, values: Mapping[str, Value]) -> None:
    path = Path(text)
    if text and path.exists():
        raise ConfigError("it is there already, and no recording is written over")


CHECKS: Mapping[str, Callable[[str, RobotSpec | None, Mapping[str, Value]], Any]] = {
    "base": _check_base,
    "world": _check_world,
    "recording": _check_recording,
    "new file": _check_new_file,
}
"""By what an argument names: raises what is wrong with it, given the robot's spec and all values."""


def _remedy(argument: Argument, value: str) -> str:
    """What to write instead, where the error itself does not say."""
    if argument.rules.get("names") != "new file":
        return ""
    path = Path(value)
    return f". Write {argument.name}:={path.with_stem(path.stem + '-2')}"
