"""Bringup: `python -m wm_robot_ros.launching.bringup GRAPH VALUES` starts and stops the nodes of a launch graph.

All nodes start at once. Lifecycle nodes are configured and activated one after another. Then those nodes start whose
end ends the graph. The policy of a node defines the effect of its end. After a required node ends, the others are
stopped in reverse order. A restarted node starts again after a growing delay. Without an optional node the others
continue.
"""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import Executor
from rclpy.node import Node

from wm_robot.errors import ConfigError, DeviceError, WmRobotError
from wm_robot_ros.launching.launch_graph import (
    DELAYS,
    LEASE,
    MISTAKE,
    OPTIONAL,
    REQUIRED,
    RESTARTED,
    STEADY,
    Graph,
    Value,
    path_of,
    resolved,
    spelt,
)
from wm_robot_ros.launching.name_lock import NameLock
from wm_robot_ros.middleware.environment import (
    DOMAINS,
    NodeProcess,
    node_command,
    ros_domain,
    ros_environment,
)
from wm_robot_ros.middleware.lifecycle import LifecycleClient
from wm_robot_ros.middleware.node_runtime import PATIENCE, Stop, executor_of, start

CONFIGURE = 60.0
"""Longest time to configure a node, in s: an agent loads its base and runs some warm-up steps."""
ENDING = 10.0
"""Longest time for a node to end in order, in s: an agent saves its lifetime state."""
DISCOVERY = 4.0
"""Time to discover nodes that run already, in s. Fast DDS announces each process when another one starts, and every
3 s: 7 of 14 discoveries took 0.3 s, the others 1.7 to 2.8 s."""


class Member:
    """Node of the graph, and its current process."""

    def __init__(self, node: Mapping[str, Any], environment: Mapping[str, str]):
        self.node, self.name, self.policy = node, path_of(node), str(node["policy"])
        self._environment = environment
        self.process: NodeProcess | None = None
        """None before the start, during the wait for a restart, and after the end."""
        self.failures = 0
        """Number of ends in a row."""
        self.due = self._began = 0.0
        """Times of the next restart and of the last start, in s of the monotonic clock."""

    def start(self) -> None:
        parameters = self.node["parameters"] | (self.node["restarted_with"] if self.failures else {})
        command = node_command(
            self.node["executable"], parameters, namespace=self.node["namespace"], name=self.node["name"]
        )
        self.process, self._began = NodeProcess(command, self._environment), time.monotonic()

    @property
    def code(self) -> int | None:
        """Exit code of the process, if it has just ended."""
        return None if self.process is None or self.process.running else self.process.wait(0)

    @property
    def new(self) -> bool:
        """Whether the first start was recent, so that a rejected argument is a mistake of the user."""
        return not self.failures and time.monotonic() - self._began < STEADY

    @property
    def waiting(self) -> bool:
        return self.process is None and self.due > 0

    def set_aside(self) -> float | None:
        """Record the end of the process, and return the delay until its restart in s; None for no restart."""
        if time.monotonic() - self._began > STEADY:
            self.failures = 0
        self.process, self.due = None, 0.0
        if self.policy != RESTARTED or self.failures >= len(DELAYS):
            return None
        delay = DELAYS[self.failures]
        self.failures += 1
        self.due = time.monotonic() + delay
        return delay


class GraphError(DeviceError):
    """End of the graph, because a required member has ended."""

    def __init__(self, words: str, code: int):
        super().__init__(words)
        self.code = code
        """Exit code of the graph."""


class MemberError(GraphError):
    """Failure to start, configure or activate a member."""


class Bringup:
    """Members of a graph, from their start to their end."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]], driver: Node, executor: Executor, stop: Stop):
        environment = ros_environment()
        self._members = [Member(node, environment) for node in nodes]
        self._driver, self._executor, self._stop = driver, executor, stop
        self._lost = False
        """Whether a restarted member has used all its restarts."""

    def bring_up(self) -> None:
        """Start all members, and configure and activate the lifecycle nodes.

        Raises:
            GraphError: If a member fails; its own message is on stderr.
            KeyboardInterrupt: If the user requests the end.
        """
        for member in self._members:
            if not member.node["ends"]:
                member.start()
        for member in self._members:
            if member.node["lifecycle"]:
                self._activate(member)
        for member in self._members:
            if member.node["ends"]:
                member.start()
        told = (f"{m.name} ({'ends all' if m.node['ends'] else m.policy})" for m in self._members)
        self._driver.get_logger().info(f"up: {', '.join(told)}")

    def run(self) -> int:
        """Monitor the members until one ends the graph or the user requests the end; return the exit code.

        Raises:
            GraphError: If a required member ends, or no member is left.
        """
        with suppress(KeyboardInterrupt):
            while True:
                self._look()
                for member in self._members:
                    if member.node["ends"] and member.code is not None:
                        return member.code
                    if self._may_restart(member):
                        self._restart(member)
                if not any(member.process or member.waiting for member in self._members):
                    raise GraphError("no process is left", 1)
                self._executor.spin_once(timeout_sec=PATIENCE)
        return 1 if self._lost else 0

    def stop(self) -> bool:
        """Stop all members in reverse order; return whether every member with a state saved it.

        Such a member is not killed until the user requests the end once more.
        """
        saved = True
        before = self._stop.requests

        def given_up() -> bool:
            return self._stop.requests > before

        for member in reversed(self._members):
            if member.process:
                saves = bool(member.node["parameters"].get("state"))
                code = member.process.stop(patience=ENDING, give_up=given_up if saves else None)
                saved = saved and not (saves and code)
        return saved

    def _look(self, but: Member | None = None) -> None:
        """Apply the policy of each member that has ended, except one.

        Raises:
            GraphError: If a required member has ended.
            KeyboardInterrupt: If the user requests the end.
        """
        if self._stop.asked:
            raise KeyboardInterrupt
        for member in self._members:
            code = None if member is but or member.node["ends"] else member.code
            if code is None:
                continue
            words = f"{member.name} ended with {code}; its output is above"
            mistake = code == MISTAKE
            if member.policy == REQUIRED or (member.policy == RESTARTED and mistake and member.new):
                raise GraphError(words, MISTAKE if mistake else 1)
            self._set_aside(member, words)

    def _set_aside(self, member: Member, words: str) -> None:
        delay = member.set_aside()
        if delay is not None:
            then = f"It is restarted in {delay:g} s"
        elif member.policy == OPTIONAL:
            then = "It is optional"
        else:
            then = f"It is not restarted after {member.failures + 1} ends"
            self._lost = True
        self._driver.get_logger().warning(f"{words}. {then}; the other nodes continue")

    def _may_restart(self, member: Member) -> bool:
        """Whether the delay is over and the killed node has left the ROS graph, so that a new one is accepted."""
        if not member.waiting or time.monotonic() < member.due:
            return False
        return member.name not in names_in(self._driver) or time.monotonic() > member.due + LEASE

    def _restart(self, member: Member) -> None:
        member.start()
        if member.node["lifecycle"]:
            try:
                self._activate(member)
            except MemberError as error:
                if member.process:
                    member.process.stop(patience=ENDING)
                self._set_aside(member, f"{error}")
                return
        self._driver.get_logger().info(f"{member.name} was restarted")

    def _activate(self, member: Member) -> None:
        """Configure and activate a node, while the other members are monitored.

        Raises:
            MemberError: If a transition fails.
            GraphError: If a required member ends.
        """

        def look() -> None:
            self._look(member)
            if member.code is not None:
                code = MISTAKE if member.code == MISTAKE else 1
                raise MemberError(f"{member.name} ended with {member.code}; its output is above", code)

        client = LifecycleClient(self._driver, self._executor, member.name, while_waiting=look)
        while not client.there:
            look()
        try:
            client.configure(CONFIGURE)
            client.activate()
        except GraphError:
            raise
        except DeviceError as error:
            raise MemberError(f"{error}", MISTAKE) from error


def names_in(driver: Node) -> set[str]:
    """Return the full names of the nodes in the ROS graph."""
    return {f"{space.rstrip('/')}/{name}" for name, space in driver.get_node_names_and_namespaces()}


def refuse_second(driver: Node, names: Sequence[str], elsewhere: str) -> None:
    """Check that no node in this domain has one of the names.

    Args:
        driver: Node that reads the ROS graph.
        names: Full names of nodes.
        elsewhere: Advice for the error.

    Raises:
        ConfigError: If a node has one of the names.
    """
    until = time.monotonic() + DISCOVERY
    while time.monotonic() < until:
        taken = sorted(names_in(driver).intersection(names))
        if taken:
            raise ConfigError(f"{taken[0]} is up already in ROS domain {ros_domain()}. {elsewhere}")
        time.sleep(PATIENCE)


def way_out(graph: Graph, values: Mapping[str, Value]) -> str:
    """Return the advice for the case that nodes with the names of a graph run already."""
    given = {each.name: values[each.name] for each in graph.arguments if values[each.name] != each.default}
    words = (shlex.quote(f"{name}:={spelt(value)}") for name, value in given.items())
    command = " ".join(
        ("wm-robot up", shlex.quote(graph.name), *words, f"--domain {(ros_domain() + 1) % len(DOMAINS)}")
    )
    spaces = {each.name for each in graph.arguments} & {f"{n.get('namespace')}"[2:-1] for n in graph.nodes}
    names = "".join(f"another {name}:=NAME or " for name in sorted(spaces))
    return f"Start the graph with {names}in another domain. Run: {command}"


def run(nodes: Sequence[Mapping[str, Any]], stop: Stop, elsewhere: str) -> int:
    """Start the nodes of a graph, wait for its end, and return the exit code.

    Args:
        nodes: Nodes to start.
        stop: Requests of the user to end.
        elsewhere: Advice for the case that nodes with these names run already.

    Raises:
        ConfigError: If nodes with these names run already.
        GraphError: If a node cannot be started, or a required one ends.
    """
    names = sorted({path_of(node) for node in nodes})
    with NameLock(ros_domain(), names, elsewhere):
        driver = rclpy.create_node("bringup")
        executor = executor_of(driver)
        bringup = Bringup(nodes, driver, executor, stop)
        try:
            refuse_second(driver, names, elsewhere)
            bringup.bring_up()
            code = bringup.run()
        except KeyboardInterrupt:
            code = 130
        finally:
            saved = bringup.stop()
            driver.destroy_node()
        # The message of the agent is above.
        return code or int(not saved)


def main() -> None:
    """Run a graph, and exit with the code of the node that ends it.

    Raises:
        SystemExit: With 1 if a required node failed, or with 2 for an error that the user can fix.
    """
    path, values = sys.argv[1:]
    stop = start()
    try:
        graph, chosen = Graph.read(Path(path)), json.loads(values)
        code = run(resolved(graph.nodes, chosen), stop, way_out(graph, chosen))
    except WmRobotError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = error.code if isinstance(error, GraphError) else MISTAKE
    finally:
        rclpy.try_shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
