"""Goal messages: convert the goals of a task from messages to arrays, and reject invalid messages."""

from typing import Any

import numpy as np

from wm_robot.spec import RobotSpec, Task
from wm_robot.streams.joint_message import check_finite, find_indices, select_values
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot.tasks.goal_types import check_goal_type, find_goal_joints

BASE_FRAME = "base_link"
AXES = ("x", "y", "z")
MAX_LENGTH_ERROR = 1e-3
"""Largest deviation of the squared length of a quaternion from 1."""


class GoalDecoder:
    """Decoder of the goals of one task, which arrive in messages of one type."""

    def __init__(self, spec: RobotSpec, task: Task):
        """Raises:
        SpecError: If the goal type of the task does not carry its goal.
        """
        self.goal_type, self.size = check_goal_type(spec, task), task.goal
        self._decode = {
            "PointStamped": self._decode_point,
            "PoseStamped": self._decode_pose,
            "TwistStamped": self._decode_twist,
            "JointState": self._decode_joints,
            "Float64MultiArray": self._decode_array,
        }[self.goal_type]
        self.joints = find_goal_joints(spec, task) if self.goal_type == "JointState" else ()
        """Joints whose positions are the goal, if they are."""
        ranges = {joint.name: tuple(map(float, joint.position)) for joint in spec.joints}
        self._ranges = np.array([ranges[name] for name in self.joints]).reshape(-1, 2)

    @property
    def has_stamp(self) -> bool:
        """Whether the messages have a stamp; others count from their arrival."""
        return self.goal_type != "Float64MultiArray"

    @property
    def requirement(self) -> str:
        """Requirement on the messages, for a text about missing ones."""
        if self.goal_type == "JointState":
            return f"with a position of each of {list(self.joints)}"
        if self.goal_type == "Float64MultiArray":
            return f"with {self.size} numbers"
        return f"in frame '{BASE_FRAME}'"

    def decode(self, message: Any) -> np.ndarray:
        """Decode a goal, float64 `G`: SI units, a pose as position and quaternion x, y, z, w, a twist linear first.

        Raises:
            BadMessageError: If the message has another frame or size, a number is not finite or out of range, a joint
                is missing or listed twice, or a quaternion has no unit length.
        """
        return self._decode(message)

    def _decode_point(self, message: Any) -> np.ndarray:
        _check_frame(message)
        return _read_vector(message.point, "point")

    def _decode_pose(self, message: Any) -> np.ndarray:
        _check_frame(message)
        pose, names = message.pose, (*AXES, "w")
        quaternion = check_finite([getattr(pose.orientation, n) for n in names], names, "orientation")
        length = float((quaternion**2).sum())
        if abs(length - 1) > MAX_LENGTH_ERROR:
            raise BadMessageError(
                RejectionReason.RANGE,
                f"the orientation of the target has squared length {length:.4g}; it must be a unit quaternion",
            )
        return np.concatenate([_read_vector(pose.position, "position"), quaternion / np.sqrt(length)])

    def _decode_twist(self, message: Any) -> np.ndarray:
        _check_frame(message)
        return np.concatenate(
            [_read_vector(message.twist.linear, "linear"), _read_vector(message.twist.angular, "angular")]
        )

    def _decode_joints(self, message: Any) -> np.ndarray:
        order = find_indices(message.name, self.joints)
        goal = select_values(message.position, message.name, order, "position")
        bad = [
            f"{name} at {value:.4g}, not in {tuple(limits)}"
            for name, value, limits in zip(self.joints, goal, self._ranges.tolist(), strict=True)
            if not limits[0] <= value <= limits[1]
        ]
        if bad:
            raise BadMessageError(
                RejectionReason.RANGE, f"the target is outside the range of joints: {', '.join(bad)}"
            )
        return goal

    def _decode_array(self, message: Any) -> np.ndarray:
        if len(message.data) != self.size:
            raise BadMessageError(
                RejectionReason.SIZE,
                f"the target has {len(message.data)} numbers; the task has a goal of {self.size}",
            )
        return check_finite(message.data, [str(i) for i in range(self.size)], "data")


def _check_frame(message: Any) -> None:
    """Reject a message in another frame than that of the base."""
    if message.header.frame_id not in ("", BASE_FRAME):
        raise BadMessageError(
            RejectionReason.FRAME, f"the target is in frame '{message.header.frame_id}', not '{BASE_FRAME}'"
        )


def _read_vector(vector: Any, field: str) -> np.ndarray:
    return check_finite([getattr(vector, axis) for axis in AXES], AXES, field)
