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
from wm_robot_ros.middleware.node_runtime import end, executor_of, spin_once, start
from wm_robot_ros.middleware.parameters import declare
from wm_robot_ros.middleware.qos import OUTPUT, SENSOR

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
        spec = load_spec(declare(self, "robot", "arm", "name of a robot that ships, or path of its spec"))
        self.rate = declare(self, "rate", 10_000.0, "messages a second, of both kinds", bounds=(1, 1e5))
        self.report = declare(self, "report", "", "file for how many it sent; empty: none")
        self.sent = 0
        self._stamps: list[int] = []
        obs = convert.observation_message(np.full(spec.obs_dim, FALSE), spec, 1)
        action = convert.action_message(np.full(spec.action_dim, FALSE), spec, 1)
        self._kinds = [
            (self.create_publisher(JointState, topic, OUTPUT), bytearray(serialize_message(message)))
            for topic, message in (("joint_states", obs), ("joint_command", action))
        ]
        self.create_subscription(JointState, "applied_command", self._on_applied, SENSOR)

    def _on_applied(self, message: JointState) -> None:
        self._stamps = [*self._stamps[-1:], convert.stamp_of(message)]

    def send(self, count: int) -> None:
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
    stop = start()
    node = FloodNode()
    executor = executor_of(node, quick=True)
    owed, last = 0.0, time.monotonic()
    try:
        while not stop.asked:
            spin_once(executor, node, BURST)
            now = time.monotonic()
            # After a pause it does not send the missed messages at once.
            owed = min(owed + node.rate * (now - last), 0.02 * node.rate)
            last = now
            node.send(int(owed))
            owed -= int(owed)
        if node.report:
            write_file(Path(node.report), str(node.sent).encode())
    finally:
        end(node)


if __name__ == "__main__":
    main()
