"""Agent outputs: publishers of commands, predictions and surprise, while the node is active."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64

from wm_robot.spec import RobotSpec
from wm_robot.streams.transition_assembler import Lived
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.qos import OUTPUT

if TYPE_CHECKING:
    from wm_robot.agent.agent import Surprise


class AgentOutputs:
    """Publishers of an agent."""

    def __init__(self, node: LifecycleNode, spec: RobotSpec, resources: ExitStack):
        """Args:
        resources: Stack that destroys each publisher when it closes.
        """
        self._spec = spec
        self._command = node.create_lifecycle_publisher(JointState, "joint_command", OUTPUT)
        self._predicted = node.create_lifecycle_publisher(JointState, "~/prediction", OUTPUT)
        self._surprised = node.create_lifecycle_publisher(Float64, "~/surprise", OUTPUT)
        for publisher in (self._command, self._predicted, self._surprised):
            resources.callback(node.destroy_publisher, publisher)

    @property
    def listeners(self) -> int:
        """Number of subscribers of `joint_command`."""
        return int(self._command.get_subscription_count())

    def send(self, stamp: int, action: np.ndarray) -> None:
        """Publish the command that answers the observation with a stamp, in ns."""
        self._command.publish(convert.action_message(action, self._spec, stamp))

    def publish_surprise(self, transition: Lived, surprise: "Surprise") -> None:
        """Publish the prediction of a transition and its surprise."""
        self._predicted.publish(convert.observation_message(surprise.mean, self._spec, transition.stamp))
        self._surprised.publish(convert.number_message(surprise.nll))
