"""Status summary: a few numbers about each robot for display, from the newest message of each topic."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PointStamped
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from wm_robot_ros.middleware import convert


class StatusSummary:
    """Store of the newest raw message of every topic, decoded on request."""

    def __init__(self) -> None:
        self._newest: dict[str, bytes] = {}
        self._events: dict[str, dict[str, int]] = {}
        """Time of each event in ns, by robot and event."""

    def add_message(self, topic: str, data: bytes) -> None:
        """Store a message; an event is decoded immediately, because the next one replaces it.

        Args:
            topic: Topic in the namespace of its robot: `/robot/name`.
        """
        robot, _, name = topic[1:].partition("/")
        if name == "ground_truth/event":
            try:
                event = convert.decode_json_message(deserialize_message(data, String))
                self._events.setdefault(robot, {})[str(event["event"])] = int(event["stamp"])
            # Any node may publish other text on this topic.
            except (ValueError, KeyError, TypeError):
                return
        self._newest[topic] = data

    def summarise_robot(self, robot: str) -> dict[str, Any]:
        """Return the summary of a robot; values that it has not published yet are missing."""
        said: dict[str, Any] = dict(self._events.get(robot, {}))
        gripper = self._decode_point(f"/{robot}/ground_truth/gripper")
        target = self._decode_point(f"/{robot}/target")
        if gripper and target:
            said["stamp"] = gripper[0]
            said["error"] = float(np.linalg.norm(gripper[1] - target[1]))
        status = self._newest.get(f"/{robot}/agent/status")
        if status is not None:
            values = json.loads(deserialize_message(status, String).data)
            said |= {
                "active": values["active"],
                "fault": values["fault"],
                "surprise": values["surprise"],
                "lifetime": values["lifetime"],
                "latency": {name: values["latency"][name] for name in ("p50_ms", "p99_ms", "worst_ms")},
            }
        return said

    def _decode_point(self, topic: str) -> tuple[int, np.ndarray] | None:
        data = self._newest.get(topic)
        if data is None:
            return None
        message = deserialize_message(data, PointStamped)
        return convert.read_stamp(message), np.array([message.point.x, message.point.y, message.point.z])


def encode_summaries(robots: Mapping[str, Mapping[str, Any]]) -> str:
    """Encode the summaries of robots as one line of JSON."""
    return json.dumps({"robots": robots}, separators=(",", ":")) + "\n"
