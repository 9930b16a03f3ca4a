"""Display node: publishes the predicted path of an agent's plan as markers and frames, and a robot description.

It subscribes to the agent's `~/plan`. No other node depends on it. For a robot without a gripper it draws no path,
and logs the reason.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Point, PoseStamped, Quaternion, TransformStamped, Vector3
from rclpy.node import Node
from std_msgs.msg import ColorRGBA, String
from visualization_msgs.msg import Marker, MarkerArray

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_quaternion
from wm_robot.robots import load_spec
from wm_robot.robots.urdf import find_differences, write_urdf
from wm_robot_ros.middleware.convert import BASE_FRAME
from wm_robot_ros.middleware.idle_tasks import create_steady_timer
from wm_robot_ros.middleware.node_runtime import make_executor, run_node, spin_once
from wm_robot_ros.middleware.parameters import declare_parameter, warn_about_unknown
from wm_robot_ros.middleware.qos import LATCHED_QOS, OUTPUT_QOS, SENSOR_QOS
from wm_robot_ros.nodes.plan_markers import (
    GripperPath,
    compute_ellipsoid,
    compute_gripper_path,
    has_path,
)
from wm_robot_ros.state_api import interfaces

PREDICTED_FRAME = "predicted_gripper"
"""Frame of the gripper at the end of the plan."""
ELLIPSOID_DEVIATIONS = 2.0
"""Half-axis of an ellipsoid, in standard deviations."""
MARKER_LIFETIME = 0.5
"""Time after which markers disappear, in s."""
PATH_WIDTH = 0.006
"""Width of the path, in m."""
DESCRIPTION_DELAY = 3.0
"""Time to wait for a robot description of another node, in s."""
MIN_ELLIPSOID_SIZE = 1e-3
"""Smallest axis of an ellipsoid, in m, because RViz warns about a size of zero."""


class DisplayNode(Node):
    """Node that draws plans as markers."""

    def __init__(self) -> None:
        """Raises:
        WmRobotError: If the spec of the robot cannot be loaded.
        """
        super().__init__("display")
        self.spec = load_spec(
            declare_parameter(self, "robot", "arm", "name of a robot that ships, or path of its spec")
        )
        self._prefix = declare_parameter(self, "frame_prefix", "", "prefix of frame names, such as `left/`")
        describe = declare_parameter(
            self,
            "publish_description",
            True,
            "publish a description made from the spec, if no other node does",
        )
        warn_about_unknown(self)
        self._markers = self.create_publisher(MarkerArray, "~/predicted_path", OUTPUT_QOS)
        self._gripper = self.create_publisher(PoseStamped, "~/predicted_gripper", OUTPUT_QOS)
        self._frames = self._create_frame_publisher()
        missing = interfaces.interfaces_unavailable()
        if missing:
            self.get_logger().warning(missing)
        elif not has_path(self.spec):
            self.get_logger().info(
                f"robot '{self.spec.name}' has no chain to a gripper or no position sensors: no path is drawn"
            )
        else:
            from wm_robot_msgs.msg import Prediction

            self.create_subscription(Prediction, "agent/plan", self._on_plan, SENSOR_QOS)
        self._has_description = False
        self.create_subscription(String, "robot_description", self._on_description, LATCHED_QOS)
        if describe and self.spec.chain:
            self._description = self.create_publisher(String, "robot_description", LATCHED_QOS)
            # Later, so that this node does not duplicate an existing description.
            self._description_timer = create_steady_timer(self, DESCRIPTION_DELAY, self._publish_description)

    def _create_frame_publisher(self) -> Any:
        # The wheels lack tf2_msgs; every system installation has it.
        if find_spec("tf2_msgs") is None:
            return None
        from tf2_msgs.msg import TFMessage

        return self.create_publisher(TFMessage, "/tf", OUTPUT_QOS)

    def _publish_description(self) -> None:
        self._description_timer.cancel()
        if not self._has_description and self.count_publishers(self._description.topic) < 2:
            self._description.publish(String(data=write_urdf(self.spec)))

    def _on_description(self, message: String) -> None:
        self._has_description = True
        try:
            told = find_differences(self.spec, message.data)
        except SpecError as error:
            told = [str(error)]
        for what in told:
            self.get_logger().warning(f"/robot_description and the spec of '{self.spec.name}': {what}")

    def _on_plan(self, message: Any) -> None:
        names = list(message.names)
        if names != list(self.spec.observation_names) or message.horizon < 1:
            self.get_logger().warning(
                f"plan ignored: its channels {names} are those of another robot", once=True
            )
            return
        shape = (message.horizon, len(names))
        mean, deviation = (np.asarray(part, np.float64) for part in (message.mean, message.stddev))
        if not (mean.size == deviation.size == shape[0] * shape[1] and np.isfinite([mean, deviation]).all()):
            self.get_logger().warning(
                "plan ignored: its numbers have a wrong size or are not finite", once=True
            )
            return
        path = compute_gripper_path(self.spec, mean.reshape(shape), deviation.reshape(shape))
        self._markers.publish(self._make_markers(path, message.header.stamp))
        self._publish_gripper(path, message.header.stamp)

    def _make_markers(self, path: GripperPath, stamp: Any) -> MarkerArray:
        line = self._make_marker("path", 0, Marker.LINE_STRIP, stamp)
        line.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in path.tip]
        line.scale = Vector3(x=PATH_WIDTH)
        line.color = ColorRGBA(r=0.1, g=0.5, b=0.9, a=1.0)
        markers = [line]
        for step, (tip, covariance) in enumerate(zip(path.tip, path.covariance, strict=True)):
            size, axes = compute_ellipsoid(covariance)
            ball = self._make_marker("uncertainty", step, Marker.SPHERE, stamp)
            ball.pose.position = Point(**_make_xyz(tip))
            ball.pose.orientation = _make_quaternion(axes)
            ball.scale = Vector3(**_make_xyz(np.maximum(2 * ELLIPSOID_DEVIATIONS * size, MIN_ELLIPSOID_SIZE)))
            ball.color = ColorRGBA(r=0.9, g=0.5, b=0.1, a=0.25)
            markers.append(ball)
        return MarkerArray(markers=markers)

    def _make_marker(self, space: str, number: int, kind: int, stamp: Any) -> Marker:
        marker = Marker(ns=space, id=number, type=kind, action=Marker.ADD)
        marker.header.stamp, marker.header.frame_id = stamp, self._prefix + BASE_FRAME
        marker.pose.orientation.w = 1.0
        marker.lifetime = rclpy.duration.Duration(seconds=MARKER_LIFETIME).to_msg()
        return marker

    def _publish_gripper(self, path: GripperPath, stamp: Any) -> None:
        pose = PoseStamped()
        pose.header.stamp, pose.header.frame_id = stamp, self._prefix + BASE_FRAME
        pose.pose.position, pose.pose.orientation = (
            Point(**_make_xyz(path.tip[-1])),
            _make_quaternion(path.rotation[-1]),
        )
        self._gripper.publish(pose)
        if self._frames is not None:
            frame = TransformStamped(header=pose.header, child_frame_id=self._prefix + PREDICTED_FRAME)
            frame.transform.translation = Vector3(**_make_xyz(path.tip[-1]))
            frame.transform.rotation = pose.pose.orientation
            self._frames.publish(self._frames.msg_type(transforms=[frame]))


def _make_xyz(values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip("xyz", values, strict=True)}


def _make_quaternion(rotation: np.ndarray) -> Quaternion:
    w, x, y, z = (float(value) for value in compute_quaternion(rotation))
    return Quaternion(x=x, y=y, z=z, w=w)


def main() -> None:
    """Run the node until Ctrl-C."""
    with run_node(DisplayNode) as (node, stop):
        executor = make_executor(node, use_events=True)
        while not stop.is_set:
            spin_once(executor, node)


if __name__ == "__main__":
    main()
