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
    LEAVE_TIME,
    OPTIONAL,
    REQUIRED,
    RESTART_DELAYS,
    RESTARTED,
    STEADY_TIME,
    USER_ERROR_CODE,
    ArgumentValue,
    LaunchGraph,
    format_value,
    full_node_name,
    resolve_nodes,
)
from wm_robot_ros.launching.name_lock import NameLock
from wm_robot_ros.middleware.environment import (
    FREE_DOMAINS,
    NodeProcess,
    make_node_command,
    make_ros_environment,
    read_ros_domain,
)
from wm_robot_ros.middleware.lifecycle import LifecycleClient
from wm_robot_ros.middleware.node_runtime import MAX_WAIT, ShutdownFlag, init_ros, make_executor

CONFIGURE_TIMEOUT = 60.0
"""Longest time to configure a node, in s: an agent loads its base and runs some warm-up steps."""
END_TIMEOUT = 10.0
"""Longest time for a node to end in order, in s: an agent saves its lifetime state."""
DISCOVERY_TIMEOUT = 4.0
"""Time to discover nodes that run already, in s. Fast DDS announces each process when another one starts, and every
3 s: 7 of 14 discoveries took 0.3 s, the others 1.7 to 2.8 s."""


class GraphMember:
    """Node of the graph, and its current process."""

    def __init__(self, node: Mapping[str, Any], environment: Mapping[str, str]):
        self.node, self.name, self.policy = node, full_node_name(node), str(node["policy"])
        self._environment = environment
        self.process: NodeProcess | None = None
        """None before the start, during the wait for a restart, and after the end."""
        self.num_failures = 0
        """Number of ends in a row."""
        self.restart_time = self._start_time = 0.0
        """Times of the next restart and of the last start, in s of the monotonic clock."""

    def start_process(self) -> None:
        parameters = self.node["parameters"] | (self.node["restarted_with"] if self.num_failures else {})
        command = make_node_command(
            self.node["executable"], parameters, namespace=self.node["namespace"], name=self.node["name"]
        )
        self.process, self._start_time = NodeProcess(command, self._environment), time.monotonic()

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process, if it has just ended."""
        return None if self.process is None or self.process.is_running else self.process.wait_for_exit(0)

    @property
    def is_new(self) -> bool:
        """Whether the first start was recent, so that a rejected argument is a mistake of the user."""
        return not self.num_failures and time.monotonic() - self._start_time < STEADY_TIME

    @property
    def is_waiting(self) -> bool:
        return self.process is None and self.restart_time > 0

    def record_end(self) -> float | None:
        """Record the end of the process, and return the delay until its restart in s; None for no restart."""
        if time.monotonic() - self._start_time > STEADY_TIME:
            self.num_failures = 0
        self.process, self.restart_time = None, 0.0
        if self.policy != RESTARTED or self.num_failures >= len(RESTART_DELAYS):
            return None
        delay = RESTART_DELAYS[self.num_failures]
        self.num_failures += 1
        self.restart_time = time.monotonic() + delay
        return delay


class GraphError(DeviceError):
    """End of the graph, because a required member has ended."""

    def __init__(self, words: str, exit_code: int):
        super().__init__(words)
        self.exit_code = exit_code
        """Exit code of the graph."""


class MemberError(GraphError):
    """Failure to start, configure or activate a member."""


class GraphBringup:
    """Members of a graph, from their start to their end."""

    def __init__(
        self,
        nodes: Sequence[Mapping[str, Any]],
        driver: Node,
        executor: Executor,
        shutdown_flag: ShutdownFlag,
    ):
        environment = make_ros_environment()
        self._members = [GraphMember(node, environment) for node in nodes]
        self._driver, self._executor, self._shutdown_flag = driver, executor, shutdown_flag
        self._has_lost_member = False
        """Whether a restarted member has used all its restarts."""

    def start_members(self) -> None:
        """Start all members, and configure and activate the lifecycle nodes.

        Raises:
            GraphError: If a member fails; its own message is on stderr.
            KeyboardInterrupt: If the user requests the end.
        """
        for member in self._members:
            if not member.node["ends"]:
                member.start_process()
        for member in self._members:
            if member.node["lifecycle"]:
                self._activate_member(member)
        for member in self._members:
            if member.node["ends"]:
                member.start_process()
        told = (f"{m.name} ({'ends all' if m.node['ends'] else m.policy})" for m in self._members)
        self._driver.get_logger().info(f"up: {', '.join(told)}")

    def monitor_members(self) -> int:
        """Monitor the members until one ends the graph or the user requests the end; return the exit code.

        Raises:
            GraphError: If a required member ends, or no member is left.
        """
        with suppress(KeyboardInterrupt):
            while True:
                self._check_members()
                for member in self._members:
                    if member.node["ends"] and member.exit_code is not None:
                        return member.exit_code
                    if self._may_restart(member):
                        self._restart_member(member)
                if not any(member.process or member.is_waiting for member in self._members):
                    raise GraphError("no process is left", 1)
                self._executor.spin_once(timeout_sec=MAX_WAIT)
        return 1 if self._has_lost_member else 0

    def stop_members(self) -> bool:
        """Stop all members in reverse order; return whether every member with a state saved it.

        Such a member is not killed until the user requests the end once more.
        """
        saved = True
        before = self._shutdown_flag.num_requests

        def is_discarded() -> bool:
            return self._shutdown_flag.num_requests > before

        for member in reversed(self._members):
            if member.process:
                saves = bool(member.node["parameters"].get("save_to"))
                code = member.process.stop_process(
                    kill_timeout=END_TIMEOUT, is_discarded=is_discarded if saves else None
                )
                saved = saved and not (saves and code)
        return saved

    def _check_members(self, excluded: GraphMember | None = None) -> None:
        """Apply the policy of each member that has ended, except one.

        Raises:
            GraphError: If a required member has ended.
            KeyboardInterrupt: If the user requests the end.
        """
        if self._shutdown_flag.is_set:
            raise KeyboardInterrupt
        for member in self._members:
            code = None if member is excluded or member.node["ends"] else member.exit_code
            if code is None:
                continue
            words = f"{member.name} ended with {code}; its output is above"
            mistake = code == USER_ERROR_CODE
            if member.policy == REQUIRED or (member.policy == RESTARTED and mistake and member.is_new):
                raise GraphError(words, USER_ERROR_CODE if mistake else 1)
            self._handle_end(member, words)

    def _handle_end(self, member: GraphMember, message: str) -> None:
        delay = member.record_end()
        if delay is not None:
            then = f"It is restarted in {delay:g} s"
        elif member.policy == OPTIONAL:
            then = "It is optional"
        else:
            then = f"It is not restarted after {member.num_failures + 1} ends"
            self._has_lost_member = True
        self._driver.get_logger().warning(f"{message}. {then}; the other nodes continue")

    def _may_restart(self, member: GraphMember) -> bool:
        """Whether the delay is over and the killed node has left the ROS graph, so that a new one is accepted."""
        if not member.is_waiting or time.monotonic() < member.restart_time:
            return False
        return (
            member.name not in list_node_names(self._driver)
            or time.monotonic() > member.restart_time + LEAVE_TIME
        )

    def _restart_member(self, member: GraphMember) -> None:
        member.start_process()
        if member.node["lifecycle"]:
            try:
                self._activate_member(member)
            except MemberError as error:
                if member.process:
                    member.process.stop_process(kill_timeout=END_TIMEOUT)
                self._handle_end(member, f"{error}")
                return
        self._driver.get_logger().info(f"{member.name} was restarted")

    def _activate_member(self, member: GraphMember) -> None:
        """Configure and activate a node, while the other members are monitored.

        Raises:
            MemberError: If a transition fails.
            GraphError: If a required member ends.
        """

        def check_start() -> None:
            self._check_members(member)
            if member.exit_code is not None:
                code = USER_ERROR_CODE if member.exit_code == USER_ERROR_CODE else 1
                raise MemberError(f"{member.name} ended with {member.exit_code}; its output is above", code)

        client = LifecycleClient(self._driver, self._executor, member.name, while_waiting=check_start)
        while not client.is_available:
            check_start()
        try:
            client.configure_node(CONFIGURE_TIMEOUT)
            client.activate_node()
        except GraphError:
            raise
        except DeviceError as error:
            raise MemberError(f"{error}", USER_ERROR_CODE) from error


def list_node_names(driver: Node) -> set[str]:
    """Return the full names of the nodes in the ROS graph."""
    return {f"{space.rstrip('/')}/{name}" for name, space in driver.get_node_names_and_namespaces()}


def check_names_free(driver: Node, names: Sequence[str], advice: str) -> None:
    """Check that no node in this domain has one of the names.

    Args:
        driver: Node that reads the ROS graph.
        names: Full names of nodes.
        advice: Advice for the error.

    Raises:
        ConfigError: If a node has one of the names.
    """
    until = time.monotonic() + DISCOVERY_TIMEOUT
    while time.monotonic() < until:
        taken = sorted(list_node_names(driver).intersection(names))
        if taken:
            raise ConfigError(f"{taken[0]} is up already in ROS domain {read_ros_domain()}. {advice}")
        time.sleep(MAX_WAIT)


def describe_alternatives(graph: LaunchGraph, values: Mapping[str, ArgumentValue]) -> str:
    """Return the advice for the case that nodes with the names of a graph run already."""
    given = {each.name: values[each.name] for each in graph.arguments if values[each.name] != each.default}
    words = (shlex.quote(f"{name}:={format_value(value)}") for name, value in given.items())
    command = " ".join(
        (
            "wm-robot up",
            shlex.quote(graph.name),
            *words,
            f"--domain {(read_ros_domain() + 1) % len(FREE_DOMAINS)}",
        )
    )
    spaces = {each.name for each in graph.arguments} & {f"{n.get('namespace')}"[2:-1] for n in graph.nodes}
    names = "".join(f"another {name}:=NAME or " for name in sorted(spaces))
    return f"Start the graph with {names}in another domain. Run: {command}"


def run_graph(nodes: Sequence[Mapping[str, Any]], shutdown_flag: ShutdownFlag, advice: str) -> int:
    """Start the nodes of a graph, wait for its end, and return the exit code.

    Args:
        nodes: Nodes to start.
        shutdown_flag: Requests of the user to end.
        advice: Advice for the case that nodes with these names run already.

    Raises:
        ConfigError: If nodes with these names run already.
        GraphError: If a node cannot be started, or a required one ends.
    """
    names = sorted({full_node_name(node) for node in nodes})
    with NameLock(read_ros_domain(), names, advice):
        driver = rclpy.create_node("bringup")
        executor = make_executor(driver)
        bringup = GraphBringup(nodes, driver, executor, shutdown_flag)
        try:
            check_names_free(driver, names, advice)
            bringup.start_members()
            code = bringup.monitor_members()
        except KeyboardInterrupt:
            code = 130
        finally:
            saved = bringup.stop_members()
            driver.destroy_node()
        # The message of the agent is above.
        return code or int(not saved)


def main() -> None:
    """Run a graph, and exit with the code of the node that ends it.

    Raises:
        SystemExit: With 1 if a required node failed, or with 2 for an error that the user can fix.
    """
    path, values = sys.argv[1:]
    stop = init_ros()
    try:
        graph, chosen = LaunchGraph.read(Path(path)), json.loads(values)
        code = run_graph(resolve_nodes(graph.nodes, chosen), stop, describe_alternatives(graph, chosen))
    except WmRobotError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = error.exit_code if isinstance(error, GraphError) else USER_ERROR_CODE
    finally:
        rclpy.try_shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
