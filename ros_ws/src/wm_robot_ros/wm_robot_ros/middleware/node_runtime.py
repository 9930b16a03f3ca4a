"""Starting a node, running it until it is asked to end, and ending it in order."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import FrameType
from typing import Any, TypeVar

import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind
from rclpy.signals import SignalHandlerOptions

from wm_robot.control.realtime import cores_of, go_real_time
from wm_robot.errors import ConfigError, WmRobotError
from wm_robot.streams.throttled_log import Complaints
from wm_robot_ros.middleware.environment import PARENT, ros_domain

AnyNode = TypeVar("AnyNode", bound=Node)
PATIENCE = 0.1
"""Longest wait for work, in s: how late a request to end is noticed."""


class Stop:
    """Set by Ctrl-C, by a request to terminate, or by the end of the process that started us.

    rclpy's own handlers would make every publisher useless before the node has put things in order.
    """

    def __init__(self) -> None:
        self.requests = 0
        """How many signals asked to end."""
        self._parent = int(os.environ.get(PARENT, "0"))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1

    @property
    def asked(self) -> bool:
        return self.requests > 0 or (self._parent > 0 and os.getppid() != self._parent)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Let an error of ours end the process with its words on stderr.

    Raises:
        SystemExit: With 2, which says that the user can mend it.
    """
    try:
        yield
    except WmRobotError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(2) from error


def start() -> Stop:
    """Start rclpy with the command line's arguments.

    Raises:
        SystemExit: With 2 and one sentence, if ROS refuses the arguments or the domain.
    """
    stop = Stop()
    with one_sentence():
        ros_domain()
        try:
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        except (rclpy._rclpy_pybind11.RCLError, rclpy._rclpy_pybind11.UnknownROSArgsError) as error:
            raise ConfigError(_refusal(f"{error}", sys.argv)) from error
    return stop


def _refusal(words: str, arguments: list[str]) -> str:
    """Why ROS refuses a command line, without places in its source."""
    why = words.removeprefix("failed to initialize rcl: ").partition(", at /")[0].strip()
    files = [file for option, file in pairwise(arguments) if option == "--params-file"]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        return (
            f"--params-file {missing[0]}: there is no such file. Name one that is there; "
            "launch/sim.yaml shows what it holds"
        )
    if files and "params file" in why:
        return f"{why}. A file of parameters is as launch/sim.yaml: NODE, below it ros__parameters"
    return f"{why}. docs/ros.md lists the parameters; one is written -p seed:=0"


def executor_of(node: Node, *, quick: bool = False) -> Executor:
    """What calls the node back.

    Args:
        quick: Take the events executor where this rclpy has it: 0.6 ms less from message to callback
            and a third less processor time.
    """
    # Never the MultiThreadedExecutor: it lost nine messages in ten of a 200 Hz topic.
    executor = events_executor() if quick else None
    if executor is None:
        executor = SingleThreadedExecutor()
    executor.add_node(node)
    # It begins its thread of timers when it first spins. Begun after `use_real_time` it would be an ordinary one,
    # and on a busy machine a loop waited for it for milliseconds.
    executor.spin_once(timeout_sec=0.0)
    return executor


def events_executor() -> Executor | None:
    """The events executor, where this rclpy has it."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return None
    return EventsExecutor()


def spin_once(executor: Executor, node: Node, timeout: float = PATIENCE) -> None:
    """Do one piece of work, or wait for it.

    One at a time, so that a node which cannot keep up still hears that it should end. Always with a
    timeout: without one, the events executor of the wheels calls nobody back.
    """
    try:
        executor.spin_once(timeout_sec=min(timeout, PATIENCE))
    except ExternalShutdownException:
        return
    except rclpy._rclpy_pybind11.RCLError as error:
        # Jazzy raises it for an invalid transition request (rclpy issue 1209); it ends nobody.
        node.get_logger().error(f"{error}")


@contextmanager
def running(make: Callable[[], AnyNode]) -> Iterator[tuple[AnyNode, Stop]]:
    """A node from its start to its end; an error of ours ends it with its words."""
    stop, node = start(), None
    try:
        with one_sentence():
            node = make()
            yield node, stop
    finally:
        end(node)


def end(node: Node | None) -> None:
    """Take the node down."""
    if node is not None:
        executor = node.executor
        if executor is not None:
            # First: what comes for a part of it that is gone already ends the process (rclpy issue 1644).
            executor.remove_node(node)
            executor.shutdown()
        node.destroy_node()
    rclpy.try_shutdown()


def use_real_time(node: Node, priority: int, cores: str = "") -> dict[str, str]:
    """Keep the loop on time, where the system permits it; see `go_real_time`. What it does not is told.

    Args:
        priority: 0 leaves all as it is.
        cores: By number and comma; empty: any.
    """
    if not priority:
        return {}
    had = go_real_time(priority, cores_of(cores))
    for why_not in filter(None, had.values()):
        node.get_logger().warning(why_not)
    return had


def incompatible_qos(topic: str, complaints: Complaints) -> SubscriptionEventCallbacks:
    """Callbacks of a subscription that say why nothing comes: rclpy gives no data and no reason.

    For a topic that may well be silent; see `InputWatch` for one that may not.
    """

    def report(info: Any) -> None:
        policy = qos_policy_name_from_kind(info.last_policy_kind)
        words = f"a node publishes '{topic}' with a QoS that does not fit ({policy}): it is not heard"
        complaints.add(f"{topic}: qos", lambda: words)

    return SubscriptionEventCallbacks(incompatible_qos=report)
