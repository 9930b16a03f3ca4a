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
from wm_robot.robots import load_spec
from wm_robot.robots.urdf import differences, urdf_of
from wm_robot_ros.middleware.convert import FRAME
from wm_robot_ros.middleware.idle_tasks import timer
from wm_robot_ros.middleware.node_runtime import executor_of, running, spin_once
from wm_robot_ros.middleware.parameters import declare, warn_of_unknown
from wm_robot_ros.middleware.qos import LATCHED, OUTPUT, SENSOR
from wm_robot_ros.nodes.plan_markers import Path, ellipsoid, has_path, path_of, quaternion
from wm_robot_ros.state_api import interfaces

IMAGINED = "gripper_imagined"
"""Frame of the gripper at the end of the plan."""
SHOWN = 2.0
"""Half-axis of an ellipsoid, in standard deviations."""
LIFETIME = 0.5
"""Time after which markers disappear, in s."""
WIDTH = 0.006
"""Width of the path, in m."""
DESCRIBE_AFTER = 3.0
"""Time to wait for a robot description of another node, in s."""
SMALLEST = 1e-3
"""Smallest axis of an ellipsoid, in m, because RViz warns about a size of zero."""


class DisplayNode(Node):
    """Node that draws plans as markers."""

    def __init__(self) -> None:
        """Raises:
        WmRobotError: If the spec of the robot cannot be loaded.
        """
        super().__init__("display")
        self.spec = load_spec(
            declare(self, "robot", "arm", "name of a robot that ships, or path of its spec")
        )
        self._prefix = declare(self, "frame_prefix", "", "prefix of frame names, such as `left/`")
        describe = declare(
            self, "describe", True, "publish a description made from the spec, if no other node does"
        )
        warn_of_unknown(self)
        self._markers = self.create_publisher(MarkerArray, "~/imagined_path", OUTPUT)
        self._gripper = self.create_publisher(PoseStamped, "~/imagined_gripper", OUTPUT)
        self._frames = self._frame_publisher()
        missing = interfaces.missing()
        if missing:
            self.get_logger().warning(missing)
        elif not has_path(self.spec):
            self.get_logger().info(
                f"robot '{self.spec.name}' has no chain to a gripper or no position sensors: no path is drawn"
            )
        else:
            from wm_robot_msgs.msg import Prediction

            self.create_subscription(Prediction, "agent/plan", self._on_plan, SENSOR)
        self._described = False
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        if describe and self.spec.chain:
            self._description = self.create_publisher(String, "robot_description", LATCHED)
            # Later, so that this node does not duplicate an existing description.
            self._wait = timer(self, DESCRIBE_AFTER, self._describe)

    def _frame_publisher(self) -> Any:
        # The wheels lack tf2_msgs; every system installation has it.
        if find_spec("tf2_msgs") is None:
            return None
        from tf2_msgs.msg import TFMessage

        return self.create_publisher(TFMessage, "/tf", OUTPUT)

    def _describe(self) -> None:
        self._wait.cancel()
        if not self._described and self.count_publishers(self._description.topic) < 2:
            self._description.publish(String(data=urdf_of(self.spec)))

    def _on_description(self, message: String) -> None:
        self._described = True
        try:
            told = differences(self.spec, message.data)
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
        path = path_of(self.spec, mean.reshape(shape), deviation.reshape(shape))
        self._markers.publish(self._picture(path, message.header.stamp))
        self._publish_gripper(path, message.header.stamp)

    def _picture(self, path: Path, stamp: Any) -> MarkerArray:
        line = self._marker("path", 0, Marker.LINE_STRIP, stamp)
        line.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in path.tip]
        line.scale = Vector3(x=WIDTH)
        line.color = ColorRGBA(r=0.1, g=0.5, b=0.9, a=1.0)
        markers = [line]
        for step, (tip, covariance) in enumerate(zip(path.tip, path.covariance, strict=True)):
            size, axes = ellipsoid(covariance)
            ball = self._marker("uncertainty", step, Marker.SPHERE, stamp)
            ball.pose.position = Point(**_xyz(tip))
            ball.pose.orientation = _turned(axes)
            ball.scale = Vector3(**_xyz(np.maximum(2 * SHOWN * size, SMALLEST)))
            ball.color = ColorRGBA(r=0.9, g=0.5, b=0.1, a=0.25)
            markers.append(ball)
        return MarkerArray(markers=markers)

    def _marker(self, space: str, number: int, kind: int, stamp: Any) -> Marker:
        marker = Marker(ns=space, id=number, type=kind, action=Marker.ADD)
        marker.header.stamp, marker.header.frame_id = stamp, self._prefix + FRAME
        marker.pose.orientation.w = 1.0
        marker.lifetime = rclpy.duration.Duration(seconds=LIFETIME).to_msg()
        return marker

    def _publish_gripper(self, path: Path, stamp: Any) -> None:
        pose = PoseStamped()
        pose.header.stamp, pose.header.frame_id = stamp, self._prefix + FRAME
        pose.pose.position, pose.pose.orientation = Point(**_xyz(path.tip[-1])), _turned(path.rotation[-1])
        self._gripper.publish(pose)
        if self._frames is not None:
            frame = TransformStamped(header=pose.header, child_frame_id=self._prefix + IMAGINED)
            frame.transform.translation = Vector3(**_xyz(path.tip[-1]))
            frame.transform.rotation = pose.pose.orientation
            self._frames.publish(self._frames.msg_type(transforms=[frame]))


def _xyz(values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip("xyz", values, strict=True)}


def _turned(rotation: np.ndarray) -> Quaternion:
    x, y, z, w = (float(value) for value in quaternion(rotation))
    return Quaternion(x=x, y=y, z=z, w=w)


def main() -> None:
    """Run the node until Ctrl-C."""
    with running(DisplayNode) as (node, stop):
        executor = executor_of(node, quick=True)
        while not stop.asked:
            spin_once(executor, node)


if __name__ == "__main__":
    main()
