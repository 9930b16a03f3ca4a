"""Replay node: publishes the recorded observations, actions and targets of a robot at their original pace.

Only the stamps are shifted to the present, so that an agent gets the same transitions as in the recording.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PointStamped
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.recording.episode_splitter import TOPIC_TYPES
from wm_robot.recording.recorded_experience import list_robots
from wm_robot.recording.recording_path import check_recording
from wm_robot.recording.session_file import iterate_raw_messages
from wm_robot_ros.middleware.convert import make_time_message, read_stamp
from wm_robot_ros.middleware.node_runtime import ShutdownFlag, make_executor, run_node, spin_once
from wm_robot_ros.middleware.parameters import declare_parameter, warn_about_unknown
from wm_robot_ros.middleware.qos import OUTPUT_QOS

TOPICS = {"target": PointStamped, "applied_command": JointState, "joint_states": JointState}
LEAD_TIME = 0.2
"""Time from the last subscription to the first message, in s."""


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
        space = f"/{robot}" if robot else ""
        self._topics = {f"{space}/{name}": kind for name, kind in TOPICS.items()}
        self._topic_publishers = {
            f"{space}/{n}": self.create_publisher(kind, n, OUTPUT_QOS) for n, kind in TOPICS.items()
        }
        self._observation_publisher = self._topic_publishers[f"{space}/joint_states"]
        self.num_published = 0

    @property
    def has_subscribers(self) -> bool:
        """Whether there are enough subscribers."""
        return bool(self._observation_publisher.get_subscription_count() >= self.min_subscribers)

    def read_messages(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the messages of the robot, in recorded order."""
        wanted = {topic: TOPIC_TYPES[topic.rpartition("/")[2]] for topic in self._topics}
        for raw in iterate_raw_messages(self.path, wanted):
            yield raw.topic, deserialize_message(raw.data, self._topics[raw.topic])

    def publish_shifted(self, topic: str, message: Any, offset_ns: int) -> None:
        """Publish a message with its stamp shifted by an offset, in ns."""
        message.header.stamp = make_time_message(read_stamp(message) + offset_ns)
        self._topic_publishers[topic].publish(message)
        self.num_published += 1


def replay_messages(node: ReplayNode, executor: Executor, shutdown_flag: ShutdownFlag) -> None:
    """Replay all messages, or until a request to stop.

    Raises:
        SnapshotError: If the session has no message of the robot.
    """
    while not (shutdown_flag.is_set or node.has_subscribers):
        spin_once(executor, node)
    moved = None
    for topic, message in node.read_messages():
        now = int(node.get_clock().now().nanoseconds)
        if moved is None:
            moved = now + round(LEAD_TIME * 1e9) - read_stamp(message)
        while not shutdown_flag.is_set and (left := (read_stamp(message) + moved - now) / 1e9) > 0:
            time.sleep(min(left, 0.05))
            now = int(node.get_clock().now().nanoseconds)
        if shutdown_flag.is_set:
            return
        node.publish_shifted(topic, message, moved)
    if not node.num_published:
        robots = " or ".join(f"from_robot:={robot}" for robot in list_robots(node.path))
        raise SnapshotError(
            f"{node.path} has no messages of {sorted(node._topics)}. Set {robots or 'another recording'}"
        )


def main() -> None:
    """Replay the session, then exit."""
    with run_node(ReplayNode) as (node, stop):
        replay_messages(node, make_executor(node), stop)
        node.get_logger().info(f"replayed {node.num_published} messages of {node.path}")


if __name__ == "__main__":
    main()
