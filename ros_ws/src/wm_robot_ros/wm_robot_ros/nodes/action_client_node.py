"""Action client node: sends one goal to an agent, logs its progress, and prints its result."""

import json
import math
import sys
import time
from typing import Any

from rclpy.action import ActionClient
from rclpy.executors import Executor
from rclpy.node import Node

from wm_robot.errors import ConfigError, DeviceError
from wm_robot_ros.middleware.node_runtime import (
    ShutdownFlag,
    init_ros,
    make_executor,
    report_errors,
    shut_down_node,
    spin_once,
)
from wm_robot_ros.middleware.parameters import declare_parameter, warn_about_unknown
from wm_robot_ros.state_api import interfaces

LOG_INTERVAL = 2.0
"""Time between two log lines of progress, in s."""
CANCEL_TIMEOUT = 5.0
"""Longest wait for an agent to end a cancelled goal, in s."""


class ActionClientNode(Node):
    """Client node of the actions of an agent."""

    def __init__(self) -> None:
        """Raises:
        ConfigError: If `wm_robot_msgs` is not built, or the action does not exist.
        """
        super().__init__("action_client")
        action = declare_parameter(self, "action", "evaluate", "action to run: adapt or evaluate")
        agent = declare_parameter(self, "agent", "agent", "name of the agent's node")
        self.timeout = declare_parameter(
            self, "timeout", 60.0, "longest wait for the agent, in s", bounds=(0, 3600)
        )
        steps = declare_parameter(self, "steps", 1500, "adapt: number of control steps", bounds=(0, 10**9))
        max_increase = declare_parameter(
            self,
            "max_surprise_increase",
            0.5,
            "adapt: largest accepted increase of the surprise, in nats per channel; negative: any",
        )
        pin = declare_parameter(self, "pin", "", "adapt: pin for the result; empty: none")
        recordings = declare_parameter(
            self, "recordings", "", "evaluate: sessions, bags or episode files, separated by commas"
        )
        robot = declare_parameter(
            self, "robot", "", "evaluate: namespace of the robot in a session with several"
        )
        references = declare_parameter(
            self,
            "references",
            "",
            "evaluate: branches, pins or digests, separated by commas; empty: the state of the agent",
        )
        warn_about_unknown(self)
        missing = interfaces.interfaces_unavailable()
        if missing:
            raise ConfigError(missing)
        from wm_robot_msgs.action import Adapt, Evaluate

        goals = {
            "adapt": lambda: Adapt.Goal(
                steps=steps,
                max_surprise_increase=max_increase if max_increase >= 0 else math.inf,
                pin=pin,
            ),
            "evaluate": lambda: Evaluate.Goal(
                recordings=_split_names(recordings), robot=robot, references=_split_names(references)
            ),
        }
        if action not in goals:
            raise ConfigError(f"action is '{action}'; it must be one of {sorted(goals)}")
        self.goal = goals[action]()
        self.client = ActionClient(self, {"adapt": Adapt, "evaluate": Evaluate}[action], f"{agent}/{action}")
        self._next_log = 0.0

    def on_feedback(self, message: Any) -> None:
        if time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + LOG_INTERVAL
            self.get_logger().info(f"{100 * message.feedback.progress:.0f} %")


def run_action(node: ActionClientNode, executor: Executor, shutdown_flag: ShutdownFlag) -> Any:
    """Send the goal, and return its result.

    Raises:
        DeviceError: If no agent offers the action, or the agent rejects the goal.
    """
    deadline = time.monotonic() + node.timeout
    while not node.client.server_is_ready():
        if shutdown_flag.is_set:
            raise KeyboardInterrupt
        if time.monotonic() > deadline:
            raise DeviceError(
                f"no node offers {node.client._action_name} within {node.timeout:g} s. Is the agent configured?"
            )
        spin_once(executor, node)
    sent = node.client.send_goal_async(node.goal, feedback_callback=node.on_feedback)
    _wait_for_future(node, executor, shutdown_flag, sent)
    if not sent.result().accepted:
        raise DeviceError(
            "the agent rejected the goal: another goal is running. Wait until it ends, or cancel it"
        )
    result = sent.result().get_result_async()
    try:
        _wait_for_future(node, executor, shutdown_flag, result)
    except KeyboardInterrupt:
        sent.result().cancel_goal_async()
        until = time.monotonic() + CANCEL_TIMEOUT
        while not result.done() and time.monotonic() < until:
            spin_once(executor, node)
        raise
    return result.result().result


def _wait_for_future(
    node: ActionClientNode, executor: Executor, shutdown_flag: ShutdownFlag, future: Any
) -> None:
    while not future.done():
        if shutdown_flag.is_set:
            raise KeyboardInterrupt
        spin_once(executor, node)


def convert_to_plain(message: Any) -> Any:
    """Convert a message to plain values; numbers that are not finite become None."""
    if hasattr(message, "get_fields_and_field_types"):
        return {
            name: convert_to_plain(getattr(message, name)) for name in message.get_fields_and_field_types()
        }
    if isinstance(message, float) and not math.isfinite(message):
        return None
    if isinstance(message, str | bool | int | float):
        return message
    return [convert_to_plain(part) for part in message]


def _split_names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Run the action and print its result as JSON.

    Raises:
        SystemExit: With 1 if the action failed, 2 if the goal could not be sent, 130 if it was interrupted.
    """
    stop = init_ros()
    node = None
    try:
        with report_errors():
            node = ActionClientNode()
            result = run_action(node, make_executor(node), stop)
        sys.stdout.write(json.dumps(convert_to_plain(result)) + "\n")
        sys.stdout.flush()
        if not result.success:
            raise SystemExit(f"the action failed: {result.message}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        shut_down_node(node)


if __name__ == "__main__":
    main()
