"""`python -m wm_robot_ros.bringup GRAPH VALUES`: the nodes of a graph, brought up in order, and ended together.

All start at once. Those with a life cycle are configured and activated one after another, and then those start that
end the graph. What fails takes the others down with it, in the reverse order.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rclpy

from wm_robot.errors import DeviceError, WmRobotError
from wm_robot_ros.environment import NodeProcess, node_command, ros_environment
from wm_robot_ros.graph import Graph, resolved
from wm_robot_ros.lifecycle import LifecycleClient
from wm_robot_ros.spin import PATIENCE, Stop, executor_of, start

CONFIGURE = 60.0
"""Patience for a node to be configured, in s: an agent loads its base and rehearses."""
ENDING = 10.0
"""Patience for a node to end in order, in s: an agent saves its life."""


class Bringup:
    """The processes of a graph."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]], environment: Mapping[str, str]):
        self._nodes, self._environment = nodes, environment
        self._running: dict[str, tuple[Mapping[str, Any], NodeProcess]] = {}

    def start(self, *, ends: bool) -> None:
        """Start those that do, or do not, end the graph."""
        for node in self._nodes:
            if node["ends"] == ends:
                command = node_command(
                    node["executable"], node["parameters"], namespace=node["namespace"], name=node["name"]
                )
                self._running[path_of(node)] = (node, NodeProcess(command, self._environment))

    def ended(self) -> int | None:
        """Exit code of the node that ends the graph, if it has ended.

        Raises:
            DeviceError: If another one has.
        """
        for name, (node, process) in self._running.items():
            if not process.running:
                code = process.wait(0)
                if node["ends"]:
                    return code
                raise DeviceError(f"{name} ended with {code}; what it said is above")
        return None

    def stop(self, stop: Stop) -> None:
        """End all, the last one first. Who saves a state may take its time, until somebody asks to end once more."""
        before = stop.requests

        def given_up() -> bool:
            return stop.requests > before

        for node, process in reversed(self._running.values()):
            saves = bool(node["parameters"].get("state"))
            process.stop(patience=ENDING, give_up=given_up if saves else None)


def path_of(node: Mapping[str, Any]) -> str:
    """A node's name with its namespace."""
    return f"/{node['namespace']}/{node['name']}".replace("//", "/")


def run(nodes: Sequence[Mapping[str, Any]], stop: Stop) -> int:
    """Bring them up, and wait until one ends the graph, or somebody asks to.

    Raises:
        DeviceError: If one fails.
    """
    bringup = Bringup(nodes, ros_environment())
    driver = rclpy.create_node("bringup")
    executor = executor_of(driver)
    try:
        bringup.start(ends=False)
        for node in nodes:
            if node["lifecycle"]:
                client = LifecycleClient(driver, executor, path_of(node))
                _await_service(bringup, client, stop)
                client.configure(CONFIGURE)
                client.activate()
        bringup.start(ends=True)
        driver.get_logger().info(f"up: {', '.join(map(path_of, nodes))}")
        while not stop.asked:
            code = bringup.ended()
            if code is not None:
                return code
            executor.spin_once(timeout_sec=PATIENCE)
        return 0
    except KeyboardInterrupt:
        return 130
    finally:
        bringup.stop(stop)
        driver.destroy_node()


def _await_service(bringup: Bringup, client: LifecycleClient, stop: Stop) -> None:
    """Until the node can be asked; a node that died meanwhile is told of, and not waited for."""
    while not client.there:
        bringup.ended()
        if stop.asked:
            raise KeyboardInterrupt


def main() -> None:
    """Exit code as the node that ends the graph has it; 1 if one fails."""
    path, values = sys.argv[1:]
    stop = start()
    try:
        code = run(resolved(Graph.read(Path(path)).nodes, json.loads(values)), stop)
    except WmRobotError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = 1
    finally:
        rclpy.try_shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
