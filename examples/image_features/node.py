"""ROS 2 node that publishes features of images as a vector sensor.

    python -m image_features.node --robot pointer.yaml

Its images are those that a camera of the robot's MuJoCo model would take of the joint states, without a screen
(`MUJOCO_GL=egl`). For your own camera, subscribe `sensor_msgs/msg/Image` and call `publish_features` with each image.
"""

import argparse
import signal
from pathlib import Path

import numpy as np
import rclpy
from jaxtyping import UInt8
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from image_features.moments import compute_center, compute_redness
from wm_robot.robots import load_spec
from wm_robot_sim.camera import open_camera

POINTER = Path(__file__).with_name("pointer.yaml")
SIZE, RATE = 96, 20.0
"""Height and width of an image in pixels; images per second. The sensor of the spec has this rate."""


class ImageFeaturesNode(Node):
    """Node that renders the robot, and publishes where the ball is in the image."""

    def __init__(self, robot: Path = POINTER):
        super().__init__("image_features")
        self._spec = load_spec(robot)
        camera = open_camera(self._spec, width=SIZE, height=SIZE, view="camera")
        if camera is None:
            raise SystemExit("image_features: this machine cannot render; install EGL or OSMesa")
        self._camera = camera
        self._pose: np.ndarray | None = None
        self._publisher = self.create_publisher(Float64MultiArray, "image_features", 10)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(JointState, "joint_states", self._on_joints, newest)
        self.create_timer(1 / RATE, self._on_timer)

    def _on_joints(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=False))
        if all(name in positions for name in self._spec.joint_names):
            self._pose = np.array([positions[name] for name in self._spec.joint_names])

    def _on_timer(self) -> None:
        if self._pose is not None:
            self.publish_features(self._camera.render(self._pose))

    def publish_features(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Publish the features of an image. A ball out of view gives NaN, which is no reading."""
        features = compute_center(compute_redness(image))
        self._publisher.publish(Float64MultiArray(data=features.tolist()))

    def close(self) -> None:
        """Release the graphics context and the node."""
        self._camera.close()
        self.destroy_node()


def main() -> None:
    """Run the node until it is interrupted."""
    parser = argparse.ArgumentParser(description="Publish features of images of a robot.")
    parser.add_argument("--robot", type=Path, default=POINTER, help="path of the robot's spec")
    options, ros_arguments = parser.parse_known_args()
    # A signal ends the spinning, and not the context in the middle of a callback.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=ros_arguments, signal_handler_options=SignalHandlerOptions.NO)
    node = ImageFeaturesNode(options.robot)
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.close()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
