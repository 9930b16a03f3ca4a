"""Replay node: publishes the recorded observations, readings, actions and targets of a robot at their original pace.

Only the stamps are shifted to the present, so that an agent gets the same transitions as in the recording.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PointStamped
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.recording.episode_splitter import STATE_TOPIC, list_topic_types
from wm_robot.recording.recorded_experience import list_robots
from wm_robot.recording.recording_path import check_recording
from wm_robot.recording.robot_topics import resolve_topic
from wm_robot.recording.session_file import iterate_raw_messages
from wm_robot.robots import load_spec
from wm_robot.streams.sensor_message import has_header, list_message_sensors
from wm_robot_ros.middleware.convert import make_time_message, read_stamp
from wm_robot_ros.middleware.node_runtime import ShutdownFlag, make_executor, run_node, spin_once
from wm_robot_ros.middleware.parameters import declare_parameter, warn_about_unknown
from wm_robot_ros.middleware.qos import OUTPUT_QOS
from wm_robot_ros.middleware.sensor_messages import find_message_class

TOPICS = {"target": PointStamped, "applied_command": JointState, "joint_states": JointState}
LEAD_TIME = 0.2
"""Time from the last subscription to the first message, in s."""
MAX_EARLY_READINGS = 1000
"""Largest number of readings before the first message of the robot's own clock."""


@dataclass(frozen=True)
class ReplayedMessage:
    """Message of a recording."""

    topic: str
    """Whole name in the recording."""
    message: Any
    received: int
    """Time of its receipt, in ns."""
    is_reading: bool
    """Whether it is of a sensor beyond the joints, whose clock may be another one."""


class ReplayNode(Node):
    """Node that publishes the messages of a session."""

    def __init__(self) -> None:
        """Raises:
        ConfigError: If the node uses a simulated clock.
        SnapshotError: If the session does not exist or cannot be read.
        """
        super().__init__("replay")
        self.path = Path(declare_parameter(self, "recording", "session.mcap", "session or bag to replay"))
        robot = declare_parameter(
            self, "from_robot", "", "namespace of the robot in it; empty: no namespace"
        ).strip("/ ")
        spec = load_spec(
            declare_parameter(
                self, "robot", "arm", "for sensors: name of a robot that ships, or path of its spec"
            )
        )
        self.min_subscribers = declare_parameter(
            self,
            "min_subscribers",
            1,
            "minimum number of joint_states subscribers before the replay starts",
            bounds=(0, 64),
        )
        warn_about_unknown(self)
        if self.get_clock().ros_time_is_active:
            raise ConfigError(
                "use_sim_time is true; a replay needs the clock of the system. Set use_sim_time:=false here "
                "and in the nodes that subscribe to it"
            )
        check_recording(self.path)
        sensors = {each.topic: each for each in list_message_sensors(spec).values()}
        kinds = {**{name: find_message_class(each) for name, each in sensors.items()}, **TOPICS}
        types, self._wanted = list_topic_types(spec), dict[str, str]()
        self._kinds, self._topic_publishers = dict[str, type](), dict[str, Publisher]()
        self._sensors = {resolve_topic(robot, name): each for name, each in sensors.items()}
        """Topic in the recording → a sensor that it carries."""
        for name, kind in kinds.items():
            topic = resolve_topic(robot, name)
            self._wanted[topic], self._kinds[topic] = types[name], kind
            self._topic_publishers[topic] = self.create_publisher(kind, name, OUTPUT_QOS)
        self._observation_publisher = self._topic_publishers[resolve_topic(robot, STATE_TOPIC)]
        self.num_published = 0

    @property
    def has_subscribers(self) -> bool:
        """Whether there are enough subscribers."""
        return bool(self._observation_publisher.get_subscription_count() >= self.min_subscribers)

    @property
    def topics(self) -> list[str]:
        """Topics in the recording that are replayed."""
        return sorted(self._wanted)

    def read_messages(self) -> Iterator[ReplayedMessage]:
        """Iterate over the messages of the robot, in recorded order."""
        for raw in iterate_raw_messages(self.path, self._wanted):
            message = deserialize_message(raw.data, self._kinds[raw.topic])
            yield ReplayedMessage(raw.topic, message, raw.receive_time, raw.topic in self._sensors)

    def publish_shifted(self, replayed: ReplayedMessage, offset_ns: int) -> None:
        """Publish a message with its stamp, if it has one, shifted by an offset, in ns."""
        sensor, message = self._sensors.get(replayed.topic), replayed.message
        if sensor is None or has_header(sensor):
            message.header.stamp = make_time_message(read_stamp(message) + offset_ns)
        self._topic_publishers[replayed.topic].publish(message)
        self.num_published += 1


def schedule_messages(messages: Iterable[ReplayedMessage]) -> Iterator[tuple[int, ReplayedMessage]]:
    """Iterate over messages, each with the time when it is due, in ns by the robot's clock.

    Messages of the robot's own clock are due at their stamps. The reading of a sensor is due as long after the last
    of them, or before the first, as it was received: its stamp may be of another clock, or missing.
    """
    early: deque[ReplayedMessage] = deque(maxlen=MAX_EARLY_READINGS)
    last: tuple[int, int] | None = None
    for each in messages:
        if not each.is_reading:
            last = read_stamp(each.message), each.received
            while early:
                first = early.popleft()
                yield last[0] - (last[1] - first.received), first
            yield last[0], each
        elif last is None:
            early.append(each)
        else:
            yield last[0] + max(0, each.received - last[1]), each


def replay_messages(node: ReplayNode, executor: Executor, shutdown_flag: ShutdownFlag) -> None:
    """Replay all messages, or until a request to stop.

    Raises:
        SnapshotError: If the session has no message of the robot.
    """
    while not (shutdown_flag.is_set or node.has_subscribers):
        spin_once(executor, node)
    moved = None
    for due, replayed in schedule_messages(node.read_messages()):
        now = int(node.get_clock().now().nanoseconds)
        if moved is None:
            moved = now + round(LEAD_TIME * 1e9) - due
        while not shutdown_flag.is_set and (left := (due + moved - now) / 1e9) > 0:
            time.sleep(min(left, 0.05))
            now = int(node.get_clock().now().nanoseconds)
        if shutdown_flag.is_set:
            return
        node.publish_shifted(replayed, moved)
    if not node.num_published:
        robots = " or ".join(f"from_robot:={robot}" for robot in list_robots(node.path))
        raise SnapshotError(
            f"{node.path} has no messages of {node.topics}. Set {robots or 'another recording'}"
        )


def main() -> None:
    """Replay the session, then exit."""
    with run_node(ReplayNode) as (node, stop):
        replay_messages(node, make_executor(node), stop)
        node.get_logger().info(f"replayed {node.num_published} messages of {node.path}")


if __name__ == "__main__":
    main()
