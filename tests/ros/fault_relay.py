"""A relay node between a plant and its agent, which stops, freezes, delays or disturbs a sensor when told to."""

import json
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.streams.joint_message import read_stamp
from wm_robot.streams.sensor_message import decode_reading, fill_message, has_header, list_message_sensors
from wm_robot_ros.middleware.convert import make_time_message
from wm_robot_ros.middleware.node_runtime import make_executor, run_node, spin_once, use_real_time
from wm_robot_ros.middleware.qos import OUTPUT_QOS
from wm_robot_ros.middleware.sensor_messages import find_message_class

PREFIX = "raw/"
"""Prefix of the topics of the plant, which the relay publishes without it."""
RELAY_QOS = QoSProfile(depth=64, reliability=ReliabilityPolicy.RELIABLE)


def list_relayed_topics(spec: RobotSpec) -> list[str]:
    """Topics that the plant publishes with the prefix: remap them."""
    return [*(sensor.topic for sensor in list_message_sensors(spec).values()), "joint_states"]


class FaultRelay(Node):
    """Publishes what the plant publishes, with the fault of one sensor."""

    def __init__(self, robot: str):
        super().__init__("relay")
        self._sensors = list_message_sensors(load_spec(robot))
        self._rng = np.random.default_rng(0)
        self._told: dict[str, Any] = {}
        """`fault` (`killed`, `frozen`, `delayed`, `noisy`) of `sensor`, `delay` in s, `noise` in deviations of the
        spec; `loss`, the share of messages of sensors that are lost; `offset` of the clock of the sensors, in s."""
        self._held: Any = None
        self._late: deque[tuple[int, bytes]] = deque()
        self._outputs, self._kinds = {}, {}
        for name, sensor in self._sensors.items():
            self._relay(name, sensor.topic, find_message_class(sensor))
        self._relay("joints", "joint_states", JointState)
        self.create_subscription(String, "fault", self._on_fault, RELAY_QOS)

    def _relay(self, name: str, topic: str, kind: type) -> None:
        self._kinds[name] = kind
        self._outputs[name] = self.create_publisher(kind, topic, OUTPUT_QOS)
        # Bytes, since few messages are changed.
        self.create_subscription(kind, PREFIX + topic, partial(self._on_message, name), RELAY_QOS, raw=True)

    def _on_fault(self, message: String) -> None:
        self._told, self._held = json.loads(message.data), None
        self._late.clear()

    def _on_message(self, name: str, message: bytes) -> None:
        is_sensor = name in self._sensors
        if is_sensor and name == self._told.get("sensor"):
            self._pass_faulty(name, message)
        elif not is_sensor or self._rng.random() >= self._told.get("loss", 0.0):
            self._outputs[name].publish(self._shift(name, message))

    def _shift(self, name: str, message: bytes) -> bytes:
        """Return a message with the stamp of a clock that is off."""
        offset = round(1e9 * self._told.get("offset", 0.0))
        if not offset or name not in self._sensors or not has_header(self._sensors[name]):
            return message
        shifted = deserialize_message(message, self._kinds[name])
        shifted.header.stamp = make_time_message(read_stamp(shifted) + offset)
        return bytes(serialize_message(shifted))

    def _pass_faulty(self, name: str, message: bytes) -> None:
        fault, now = self._told["fault"], int(self.get_clock().now().nanoseconds)
        change: dict[str, Callable[..., Any]] = {"frozen": self._freeze, "noisy": self._disturb}
        if fault == "delayed":
            self._late.append((now + round(1e9 * self._told["delay"]), message))
            while self._late and self._late[0][0] <= now:
                self._outputs[name].publish(self._late.popleft()[1])
        elif fault in change:
            self._outputs[name].publish(change[fault](name, deserialize_message(message, self._kinds[name])))

    def _freeze(self, name: str, message: Any) -> Any:
        self._held = self._held or message
        if has_header(self._sensors[name]):
            self._held.header.stamp = message.header.stamp
        return self._held

    def _disturb(self, name: str, message: Any) -> Any:
        sensor = self._sensors[name]
        scale = [sensor.noise[each] for each in sensor.fields for _ in range(sensor.count_values(each))]
        noise = self._told["noise"] * np.array(scale) * self._rng.standard_normal(len(scale))
        stamp = read_stamp(message) if has_header(sensor) else 0
        return fill_message(
            type(message)(), sensor, decode_reading(message, sensor).values + noise, stamp=stamp
        )


def main() -> None:
    """Run the node until Ctrl-C."""
    with run_node(lambda: FaultRelay(sys.argv[1])) as (node, stop):
        use_real_time(node, 50)
        executor = make_executor(node, use_events=True)
        while not stop.is_set:
            spin_once(executor, node)


if __name__ == "__main__":
    main()
