"""Status summary: a few numbers about each robot for display, from the newest message of each topic."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PointStamped
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_robot.spec import RobotSpec, Task
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot.streams.joint_message import decode_action, decode_observation, read_stamp
from wm_robot.streams.rejection import BadMessageError
from wm_robot.tasks import TaskError
from wm_robot_ros.middleware import convert


class StatusSummary:
    """Store of the newest raw message of every topic, decoded on request."""

    def __init__(self, spec: RobotSpec, task: Task | None):
        """Args:
        task: Task whose error is in the summary; None for none.
        """
        self._spec, self._task_error = spec, None if task is None else TaskError(spec, task)
        self._decoder = GoalDecoder(spec, task) if task is not None and task.goal else None
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
        said |= self._measure_error(robot)
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

    def _measure_error(self, robot: str) -> dict[str, Any]:
        """Return stamp and error of the newest step; empty before all of its topics were published."""
        if self._task_error is None:
            return {}
        gripper, goal, stamp = None, np.zeros(0), 0
        try:
            if self._task_error.uses_gripper:
                message = self._decode(f"/{robot}/ground_truth/gripper", PointStamped)
                gripper, stamp = (
                    np.array([getattr(message.point, axis) for axis in "xyz"]),
                    read_stamp(message),
                )
                obs, action = np.zeros(self._spec.obs_dim), np.zeros(self._spec.action_dim)
            else:
                message = self._decode(f"/{robot}/joint_states", JointState)
                joints, stamp = decode_observation(message, self._spec), read_stamp(message)
                obs = np.full(self._spec.obs_dim, np.nan)
                obs[: len(joints)] = joints
                action = decode_action(self._decode(f"/{robot}/applied_command", JointState), self._spec)
            if self._decoder is not None:
                kind = convert.GOAL_MESSAGES[self._decoder.goal_type]
                goal = self._decoder.decode(self._decode(f"/{robot}/target", kind))
        except (KeyError, BadMessageError):
            return {}
        error = float(self._task_error.measure(obs, action, obs, goal, gripper))
        # Joint states say nothing of a task of other sensors.
        return {"stamp": stamp, "error": error} if np.isfinite(error) else {}

    def _decode(self, topic: str, kind: type) -> Any:
        return deserialize_message(self._newest[topic], kind)


def encode_summaries(robots: Mapping[str, Mapping[str, Any]]) -> str:
    """Encode the summaries of robots as one line of JSON."""
    return json.dumps({"robots": robots}, separators=(",", ":")) + "\n"
