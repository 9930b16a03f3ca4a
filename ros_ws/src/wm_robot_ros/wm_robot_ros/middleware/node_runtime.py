"""Node runtime: starts a node, runs it until a request to stop, and shuts it down in order."""

import faulthandler
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

from wm_robot.control.realtime import parse_cores, request_real_time
from wm_robot.errors import ConfigError, WmRobotError
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot_ros.middleware.environment import PARENT_VARIABLE, read_ros_domain

AnyNode = TypeVar("AnyNode", bound=Node)
MAX_WAIT = 0.1
"""Longest wait for messages, in s: the delay until a request to stop is noticed."""
SLOW_SHUTDOWN = 3.0
"""Time after which a shutdown says where it is, in s."""


class ShutdownFlag:
    """Flag that is set by SIGINT, by SIGTERM, or by the end of the parent process.

    The signal handlers of rclpy would invalidate every publisher before the node has shut down in order.
    """

    def __init__(self) -> None:
        self.num_requests = 0
        """Number of signals that requested the end."""
        self._parent = int(os.environ.get(PARENT_VARIABLE, "0"))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count_request)

    def _count_request(self, number: int, frame: FrameType | None) -> None:
        self.num_requests += 1

    @property
    def is_set(self) -> bool:
        return self.num_requests > 0 or (self._parent > 0 and os.getppid() != self._parent)


@contextmanager
def report_errors() -> Iterator[None]:
    """End the process with one sentence on stderr for an error of this library.

    Raises:
        SystemExit: With 2, the code of an error that the user can fix.
    """
    try:
        yield
    except WmRobotError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(2) from error


def init_ros() -> ShutdownFlag:
    """Initialise rclpy with the arguments of the command line.

    Raises:
        SystemExit: With 2 and one sentence, if ROS rejects the arguments or the domain.
    """
    # A crash inside a library of ROS then says in which line of Python it was.
    faulthandler.enable()
    stop = ShutdownFlag()
    with report_errors():
        read_ros_domain()
        try:
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        except (rclpy._rclpy_pybind11.RCLError, rclpy._rclpy_pybind11.UnknownROSArgsError) as error:
            raise ConfigError(_describe_init_error(f"{error}", sys.argv)) from error
    return stop


def _describe_init_error(error_text: str, arguments: list[str]) -> str:
    """Describe why ROS rejects a command line, without positions in its source code."""
    why = error_text.removeprefix("failed to initialize rcl: ").partition(", at /")[0].strip()
    files = [file for option, file in pairwise(arguments) if option == "--params-file"]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        return (
            f"--params-file {missing[0]}: there is no such file. Name an existing file; "
            "launch/sim.yaml is an example"
        )
    if files and "params file" in why:
        return f"{why}. See launch/sim.yaml for the format: NODE, below it ros__parameters"
    return f"{why}. See docs/ros.md for the parameters; their form is -p seed:=0"


def make_executor(node: Node, *, use_events: bool = False) -> Executor:
    """Create the executor of a node.

    Args:
        node: The node.
        use_events: Use the events executor if this rclpy has it: 0.6 ms less from message to callback, a third less
            processor time.
    """
    # Never the MultiThreadedExecutor: it lost nine of ten messages of a 200 Hz topic.
    executor = make_events_executor() if use_events else None
    if executor is None:
        executor = SingleThreadedExecutor()
    executor.add_node(node)
    # The executor starts its timer thread at its first spin. If it started after `use_real_time`, that thread would
    # have the ordinary priority, and on a busy machine a loop waited for it for milliseconds.
    executor.spin_once(timeout_sec=0.0)
    return executor


def make_events_executor() -> Executor | None:
    """Create the events executor; None if this rclpy does not have it."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return None
    return EventsExecutor()


def spin_once(executor: Executor, node: Node, timeout: float = MAX_WAIT) -> None:
    """Run one callback, or wait for one.

    One at a time, so that an overloaded node still notices a request to stop. Always with a timeout: without it, the
    events executor of the wheels runs no callback.
    """
    try:
        executor.spin_once(timeout_sec=min(timeout, MAX_WAIT))
    except ExternalShutdownException:
        return
    except rclpy._rclpy_pybind11.RCLError as error:
        # An error of rcl in one callback must not end the node.
        node.get_logger().error(f"{error}")


@contextmanager
def run_node(make_node: Callable[[], AnyNode]) -> Iterator[tuple[AnyNode, ShutdownFlag]]:
    """Run a block with a node, and shut the node down after it; see `report_errors` for errors."""
    stop, node = init_ros(), None
    try:
        with report_errors():
            node = make_node()
            yield node, stop
    finally:
        shut_down_node(node)


def shut_down_node(node: Node | None) -> None:
    """Destroy the node, and shut rclpy down.

    If that takes longer than `SLOW_SHUTDOWN`, the stack of each thread is written to stderr.
    """
    faulthandler.dump_traceback_later(SLOW_SHUTDOWN)
    if node is not None:
        executor = node.executor
        if executor is not None:
            # First: an event for an already destroyed part of the node ends the process (rclpy issue 1644).
            executor.remove_node(node)
            executor.shutdown()
        node.destroy_node()
    rclpy.try_shutdown()
    faulthandler.cancel_dump_traceback_later()


def use_real_time(node: Node, priority: int, cores: str = "") -> dict[str, str]:
    """Request real-time scheduling, and log each request that the system rejects; see `request_real_time`.

    Args:
        node: Node that logs.
        priority: Real-time priority; 0: no change.
        cores: Numbers of cores, separated by commas; empty: any.

    Returns:
        Result of each request; empty for priority 0.
    """
    if not priority:
        return {}
    had = request_real_time(priority, parse_cores(cores))
    for why_not in filter(None, had.values()):
        node.get_logger().warning(why_not)
    return had


def log_incompatible_qos(topic: str, throttled_log: ThrottledLog) -> SubscriptionEventCallbacks:
    """Return event callbacks of a subscription that log an incompatible QoS, which rclpy does not explain.

    For a topic that may have no messages for a long time; see `InputMonitor` for other topics.
    """

    def report(info: Any) -> None:
        policy = qos_policy_name_from_kind(info.last_policy_kind)
        words = (
            f"a node publishes '{topic}' with an incompatible QoS ({policy}): its messages are not received"
        )
        throttled_log.report_cause(f"{topic}: qos", lambda: words)

    return SubscriptionEventCallbacks(incompatible_qos=report)
