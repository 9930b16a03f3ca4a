"""`wm-robot up`: the nodes of a graph, started together, without anything but ROS 2 itself."""

import json
import os
import sys
from typing import Annotated

import tyro

from wm_robot.cli.tables import print_rows
from wm_robot.cli.values import Domain
from wm_robot.errors import ConfigError, MissingExtraError

Values = Annotated[tuple[str, ...], tyro.conf.Positional]


def up(
    graph: Annotated[str, tyro.conf.Positional],
    values: Values = (),
    /,
    *,
    show_args: bool = False,
    domain: Domain | None = None,
) -> None:
    """Start the nodes of a graph, bring their life cycles up in order, and end all of them when one fails.

    It is what `ros2 launch launch/NAME.launch.py` does, from the same description, where launch is not installed.

    Args:
        graph: Name of one in launch/graphs, such as `sim`, or the path of a YAML file.
        values: Arguments as with launch: `base:=bases/arm-gru`.
        show_args: Say what arguments there are, and start nothing.
        domain: ROS_DOMAIN_ID; by default the present one, or 0.
    """
    try:
        from wm_robot_ros.environment import ros_environment
        from wm_robot_ros.graph import Graph, find
    except ImportError as error:
        raise MissingExtraError("wm-robot up", "ros") from error
    path = find(graph)
    found = Graph.read(path)
    if show_args:
        rows = [
            {"argument": each.name, "default": str(each.default), "about": each.about}
            for each in found.arguments
        ]
        print(found.about)
        print_rows(rows, as_json=False)
        return
    wrong = [value for value in values if ":=" not in value]
    if wrong:
        raise ConfigError(
            f"{wrong} are no arguments; write name:=value. See: wm-robot up {graph} --show-args"
        )
    chosen = found.values(dict(value.split(":=", 1) for value in values))
    number = int(os.environ.get("ROS_DOMAIN_ID", "0")) if domain is None else domain
    environment = ros_environment(domain=number)
    command = [sys.executable, "-m", "wm_robot_ros.bringup", str(path), json.dumps(chosen)]
    # In our place: Ctrl-C and the exit code are its own.
    os.execve(sys.executable, command, environment)
