"""`python -m wm_robot_ros.launching.bringup GRAPH VALUES`: start and stop the nodes of a launch graph in order.

All start at once. Those with a life cycle are configured and activated one after another, and then those start that
end the graph. What the end of a node means is its policy: a required one takes the others down with it, in reverse
order; a restarted one is started again, after a wait that grows; without an optional one the others go on.
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
"""Patience for a node to be configured, in s: an agent loads its base and runs a few steps to warm up."""
ENDING = 10.0
"""Patience for a node to end in order, in s: an agent saves its life."""
DISCOVERY = 4.0
"""Time in which nodes that are up already are heard of, in s. Fast DDS announces each process when one comes, and
every 3 s: of 14 looks 7 took 0.3 s, and the others 1.7 to 2.8."""


class Member:
    """A node of the graph, and the process that it runs in now."""

    def __init__(self, node: Mapping[str, Any], environment: Mapping[str, str]):
        self.node, self.name, self.policy = node, path_of(node), str(node["policy"])
        self._environment = environment
        self.process: NodeProcess | None = None
        """None while it is not there: before it starts, while it waits to be started again, and after its end."""
        self.failures = 0
        """Ends in a row."""
        self.due = self._began = 0.0
        """When it is to be started again, and when it was started last; in s of the monotonic clock."""

    def start(self) -> None:
        parameters = self.node["parameters"] | (self.node["restarted_with"] if self.failures else {})
        command = node_command(
            self.node["executable"], parameters, namespace=self.node["namespace"], name=self.node["name"]
        )
        self.process, self._began = NodeProcess(command, self._environment), time.monotonic()

    @property
    def code(self) -> int | None:
        """Its exit code, if it has just ended."""
        return None if self.process is None or self.process.running else self.process.wait(0)

    @property
    def new(self) -> bool:
        """Whether it was started for the first time, and not long ago: what it refuses is a mistake of the user."""
        return not self.failures and time.monotonic() - self._began < STEADY

    @property
    def waiting(self) -> bool:
        return self.process is None and self.due > 0

    def set_aside(self) -> float | None:
        """Take note of an end; returns the time in s until it is started again, or None if it is not."""
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
    """All members end, since one did that they cannot do without."""

    def __init__(self, words: str, code: int):
        super().__init__(words)
        self.code = code
        """Of the graph."""


class MemberError(GraphError):
    """A member could not be brought up."""


class Bringup:
    """The members of a graph, from their start to their end."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]], driver: Node, executor: Executor, stop: Stop):
        environment = ros_environment()
        self._members = [Member(node, environment) for node in nodes]
        self._driver, self._executor, self._stop = driver, executor, stop
        self._lost = False
        """Whether one that is to be restarted was given up."""

    def bring_up(self) -> None:
        """Start all, and configure and activate what has a life cycle.

        Raises:
            GraphError: If one fails; its own words are on stderr.
            KeyboardInterrupt: If somebody asks to end meanwhile.
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
        """Watch over them until one ends the graph or somebody asks to; returns the exit code.

        Raises:
            GraphError: If a required one ends, or none is left.
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
        """End all, the last one first; returns whether those that save a state did.

        They may take their time, until somebody asks to end once more.
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
        """Do what the end of a member asks for, all but one.

        Raises:
            GraphError: If it was a required one.
            KeyboardInterrupt: If somebody asks to end.
        """
        if self._stop.asked:
            raise KeyboardInterrupt
        for member in self._members:
            code = None if member is but or member.node["ends"] else member.code
            if code is None:
                continue
            words = f"{member.name} ended with {code}; what it said is above"
            mistake = code == MISTAKE
            if member.policy == REQUIRED or (member.policy == RESTARTED and mistake and member.new):
                raise GraphError(words, MISTAKE if mistake else 1)
            self._set_aside(member, words)

    def _set_aside(self, member: Member, words: str) -> None:
        delay = member.set_aside()
        if delay is not None:
            then = f"It is started again in {delay:g} s"
        elif member.policy == OPTIONAL:
            then = "It is optional"
        else:
            then = f"It is given up after {member.failures + 1} times"
            self._lost = True
        self._driver.get_logger().warning(f"{words}. {then}; the others go on")

    def _may_restart(self, member: Member) -> bool:
        """Whether its wait is over and the one that was killed has left the graph: only then is another followed."""
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
        self._driver.get_logger().info(f"{member.name} was started again")

    def _activate(self, member: Member) -> None:
        """Configure and activate a node; meanwhile the others are looked after.

        Raises:
            MemberError: If it does not follow.
            GraphError: If a required one ends meanwhile.
        """

        def look() -> None:
            self._look(member)
            if member.code is not None:
                code = MISTAKE if member.code == MISTAKE else 1
                raise MemberError(f"{member.name} ended with {member.code}; what it said is above", code)

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
    """Full names of the nodes in the ROS graph."""
    return {f"{space.rstrip('/')}/{name}" for name, space in driver.get_node_names_and_namespaces()}


def refuse_second(driver: Node, names: Sequence[str], elsewhere: str) -> None:
    """Refuse names that nodes in this domain have.

    Args:
        elsewhere: What to do instead.

    Raises:
        ConfigError: If there is one.
    """
    until = time.monotonic() + DISCOVERY
    while time.monotonic() < until:
        taken = sorted(names_in(driver).intersection(names))
        if taken:
            raise ConfigError(f"{taken[0]} is up already in ROS domain {ros_domain()}. {elsewhere}")
        time.sleep(PATIENCE)


def way_out(graph: Graph, values: Mapping[str, Value]) -> str:
    """What to do if nodes of a graph's names are up already."""
    given = {each.name: values[each.name] for each in graph.arguments if values[each.name] != each.default}
    words = (shlex.quote(f"{name}:={spelt(value)}") for name, value in given.items())
    command = " ".join(
        ("wm-robot up", shlex.quote(graph.name), *words, f"--domain {(ros_domain() + 1) % len(DOMAINS)}")
    )
    spaces = {each.name for each in graph.arguments} & {f"{n.get('namespace')}"[2:-1] for n in graph.nodes}
    names = "".join(f"another {name}:=NAME or " for name in sorted(spaces))
    return f"Start it with {names}in another domain. Run: {command}"


def run(nodes: Sequence[Mapping[str, Any]], stop: Stop, elsewhere: str) -> int:
    """Bring them up, and wait until one ends the graph, or somebody asks to; returns the exit code.

    Args:
        elsewhere: What to do if nodes of these names are up already.

    Raises:
        ConfigError: If nodes of these names are up already.
        GraphError: If they cannot be brought up, or a required one ends.
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
        # What the agent said of it is above.
        return code or int(not saved)


def main() -> None:
    """Exit code as the node that ends the graph has it; 1 if a required one fails, 2 for what the user can mend."""
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
