"""Flood node: publishes false observations and false commands at a far higher rate than the loop.

For `wm-robot bench safety`, never for a real robot. Each message has the stamp of the period before the last received
one, and a recognisable false content.
"""

import struct
import time
from pathlib import Path

import numpy as np
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState

from wm_robot.io.durable import write_file
from wm_robot.robots import load_spec
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.node_runtime import init_ros, make_executor, shut_down_node, spin_once
from wm_robot_ros.middleware.parameters import declare_parameter
from wm_robot_ros.middleware.qos import OUTPUT_QOS, SENSOR_QOS

FALSE = 0.77
"""Value of every number in a false message."""
STAMP = struct.Struct("<iI")
AT = 4
"""Offset of the stamp in a serialised message, after the four bytes of its encoding."""
BURST = 0.001
"""Time between two bursts, in s."""


class FloodNode(Node):
    """Flood node: reads stamps from the topics and publishes false messages."""

    def __init__(self) -> None:
        super().__init__("flood")
        spec = load_spec(
            declare_parameter(self, "robot", "arm", "name of a robot that ships, or path of its spec")
        )
        self.rate = declare_parameter(
            self, "rate", 10_000.0, "messages a second, of both kinds", bounds=(1, 1e5)
        )
        self.report = declare_parameter(self, "report", "", "file for how many it sent; empty: none")
        self.sent = 0
        self._stamps: list[int] = []
        obs = convert.make_observation_message(np.full(spec.obs_dim, FALSE), spec, 1)
        action = convert.make_action_message(np.full(spec.action_dim, FALSE), spec, 1)
        self._kinds = [
            (self.create_publisher(JointState, topic, OUTPUT_QOS), bytearray(serialize_message(message)))
            for topic, message in (("joint_states", obs), ("joint_command", action))
        ]
        self.create_subscription(JointState, "applied_command", self._on_applied, SENSOR_QOS)

    def _on_applied(self, message: JointState) -> None:
        self._stamps = [*self._stamps[-1:], convert.read_stamp(message)]

    def publish_burst(self, count: int) -> None:
        """Publish `count` messages, alternating between both kinds."""
        if len(self._stamps) < 2:
            return
        seconds, part = divmod(self._stamps[0], 10**9)
        for _ in range(count):
            publisher, message = self._kinds[self.sent % 2]
            STAMP.pack_into(message, AT, seconds, part)
            publisher.publish(bytes(message))
            self.sent += 1


def main() -> None:
    """Publish until Ctrl-C, then report the number of messages."""
    stop = init_ros()
    node = FloodNode()
    executor = make_executor(node, use_events=True)
    owed, last = 0.0, time.monotonic()
    try:
        while not stop.is_set:
            spin_once(executor, node, BURST)
            now = time.monotonic()
            # After a pause it does not send the missed messages at once.
            owed = min(owed + node.rate * (now - last), 0.02 * node.rate)
            last = now
            node.publish_burst(int(owed))
            owed -= int(owed)
        if node.report:
            write_file(Path(node.report), str(node.sent).encode())
    finally:
        shut_down_node(node)


if __name__ == "__main__":
    main()
