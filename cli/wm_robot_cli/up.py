"""Verb `wm-robot up`: starts the nodes of a launch graph with ROS 2 only, without the launch package."""

import json
import os
import sys
from typing import Annotated

import tyro

from wm_robot.errors import ConfigError, MissingExtraError
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import Domain

ArgumentValues = Annotated[tuple[str, ...], tyro.conf.Positional]


def start_graph(
    graph: Annotated[str, tyro.conf.Positional],
    values: ArgumentValues = (),
    /,
    *,
    show_args: bool = False,
    domain: Domain | None = None,
) -> None:
    """Start the nodes of a graph, activate them in order, and end all of them when a required one ends.

    It is equivalent to `ros2 launch wm_robot_bringup wm_robot.launch.py graph:=NAME`, without the launch package.
    Arguments are checked before a process starts.

    Args:
        graph: Name of a graph in launch/graphs, such as `sim`, or the path of a YAML file.
        values: Arguments of the graph, written as for `ros2 launch`: `base:=bases/arm-gru`.
        show_args: Print the graph's arguments and nodes, and start nothing.
        domain: ROS_DOMAIN_ID; by default that of the environment, or 0.
    """
    try:
        from wm_robot_ros.launching.launch_graph import POLICIES, LaunchGraph, find_graph
        from wm_robot_ros.launching.preflight import check_named_values
        from wm_robot_ros.middleware.environment import make_ros_environment, read_ros_domain
    except ImportError as error:
        raise MissingExtraError("wm-robot up", "ros") from error
    path = find_graph(graph)
    found = LaunchGraph.read(path)
    if show_args:
        print(found.about)
        rows = [
            {"argument": each.name, "default": str(each.default), "about": each.about}
            for each in found.arguments
        ]
        print_rows(rows, as_json=False)
        nodes = [
            {
                "node": node["name"],
                "policy": policy,
                "its end": POLICIES[policy] if not node.get("ends") else "ends all, with its exit code",
            }
            for node in found.nodes
            for policy in [node.get("policy", "required")]
        ]
        print_rows(nodes, as_json=False)
        return
    wrong = [value for value in values if ":=" not in value]
    if wrong:
        known = [each.name for each in found.arguments]
        name, _, rest = wrong[0].partition("=")
        better = f"Write {name}:={rest}" if name in known else f"See: wm-robot up {graph} --show-args"
        raise ConfigError(f"'{wrong[0]}' is not an argument of the form name:=value. {better}")
    chosen = found.parse_values(dict(value.split(":=", 1) for value in values))
    try:
        environment = make_ros_environment(domain=read_ros_domain(domain))
    except ConfigError as error:
        raise ConfigError(f"{error}. Or: wm-robot up {graph} --domain 0") from error
    check_named_values(found, chosen)
    command = [sys.executable, "-m", "wm_robot_ros.launching.bringup", str(path), json.dumps(chosen)]
    # exec replaces this process: Ctrl-C and the exit code belong to the new one.
    os.execve(sys.executable, command, environment)
