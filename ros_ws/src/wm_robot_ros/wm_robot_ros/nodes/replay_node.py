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
from wm_robot.recording.episode_splitter import STREAMS
from wm_robot.recording.recorded_experience import robots_in
from wm_robot.recording.recording_path import check_recording
from wm_robot.recording.session_file import raw_messages
from wm_robot_ros.middleware.convert import stamp_of, time_message
from wm_robot_ros.middleware.node_runtime import Stop, executor_of, running, spin_once
from wm_robot_ros.middleware.parameters import declare, warn_of_unknown
from wm_robot_ros.middleware.qos import OUTPUT

TOPICS = {"target": PointStamped, "applied_command": JointState, "joint_states": JointState}
LEAD = 0.2
"""Time from the last subscription to the first message, in s."""


class ReplayNode(Node):
    """Node that publishes the messages of a session."""

    def __init__(self) -> None:
        """Raises:
        ConfigError: If the node uses a simulated clock.
        SnapshotError: If the session does not exist or cannot be read.
        """
        super().__init__("replay")
        self.path = Path(declare(self, "recording", "session.mcap", "session or bag to replay"))
        robot = declare(self, "from_robot", "", "namespace of the robot in it; empty: no namespace").strip(
            "/ "
        )
        self.listeners = declare(
            self,
            "listeners",
            1,
            "minimum number of joint_states subscribers before the replay starts",
            bounds=(0, 64),
        )
        warn_of_unknown(self)
        if self.get_clock().ros_time_is_active:
            raise ConfigError(
                "use_sim_time is true; a replay needs the clock of the system. Set use_sim_time:=false here "
                "and in the nodes that subscribe to it"
            )
        check_recording(self.path)
        space = f"/{robot}" if robot else ""
        self._topics = {f"{space}/{name}": kind for name, kind in TOPICS.items()}
        self._said = {f"{space}/{n}": self.create_publisher(kind, n, OUTPUT) for n, kind in TOPICS.items()}
        self._heard = self._said[f"{space}/joint_states"]
        self.said = 0

    @property
    def awaited(self) -> bool:
        """Whether there are enough subscribers."""
        return bool(self._heard.get_subscription_count() >= self.listeners)

    def messages(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the messages of the robot, in recorded order."""
        wanted = {topic: STREAMS[topic.rpartition("/")[2]] for topic in self._topics}
        for raw in raw_messages(self.path, wanted):
            yield raw.topic, deserialize_message(raw.data, self._topics[raw.topic])

    def say(self, topic: str, message: Any, moved: int) -> None:
        """Publish a message with its stamp shifted by an offset, in ns."""
        message.header.stamp = time_message(stamp_of(message) + moved)
        self._said[topic].publish(message)
        self.said += 1


def run(node: ReplayNode, executor: Executor, stop: Stop) -> None:
    """Replay all messages, or until a request to stop.

    Raises:
        SnapshotError: If the session has no message of the robot.
    """
    while not (stop.asked or node.awaited):
        spin_once(executor, node)
    moved = None
    for topic, message in node.messages():
        now = int(node.get_clock().now().nanoseconds)
        if moved is None:
            moved = now + round(LEAD * 1e9) - stamp_of(message)
        while not stop.asked and (left := (stamp_of(message) + moved - now) / 1e9) > 0:
            time.sleep(min(left, 0.05))
            now = int(node.get_clock().now().nanoseconds)
        if stop.asked:
            return
        node.say(topic, message, moved)
    if not node.said:
        robots = " or ".join(f"from_robot:={robot}" for robot in robots_in(node.path))
        raise SnapshotError(
            f"{node.path} has no messages of {sorted(node._topics)}. Set {robots or 'another recording'}"
        )


def main() -> None:
    """Replay the session, then exit."""
    with running(ReplayNode) as (node, stop):
        run(node, executor_of(node), stop)
        node.get_logger().info(f"replayed {node.said} messages of {node.path}")


if __name__ == "__main__":
    main()
