"""Agent outputs: publishers of commands, predictions and surprise, while the node is active."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String

from wm_robot.spec import RobotSpec
from wm_robot.streams.transition_assembler import StampedTransition
from wm_robot.streams.transition_record import describe_transition
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.qos import OUTPUT_QOS

if TYPE_CHECKING:
    from wm_robot.agent.agent import PredictionError


class AgentOutputs:
    """Publishers of an agent."""

    def __init__(self, node: LifecycleNode, spec: RobotSpec, command_topic: str, resources: ExitStack):
        """Args:
        command_topic: `joint_command`, or another topic in shadow mode.
        resources: Stack that destroys each publisher when it closes.
        """
        self._spec, self._is_required = spec, spec.layout.is_required
        self._command = node.create_lifecycle_publisher(JointState, command_topic, OUTPUT_QOS)
        self._prediction = node.create_lifecycle_publisher(JointState, "~/prediction", OUTPUT_QOS)
        self._surprise = node.create_lifecycle_publisher(Float64, "~/surprise", OUTPUT_QOS)
        self._transition = node.create_lifecycle_publisher(String, "~/transition", OUTPUT_QOS)
        for publisher in (self._command, self._prediction, self._surprise, self._transition):
            resources.callback(node.destroy_publisher, publisher)

    @property
    def num_subscribers(self) -> int:
        """Number of subscribers of the commands."""
        return int(self._command.get_subscription_count())

    def send_command(self, stamp: int, action: np.ndarray) -> None:
        """Publish the command that answers the observation with a stamp, in ns."""
        self._command.publish(convert.make_action_message(action, self._spec, stamp))

    def publish_surprise(
        self, transition: StampedTransition, surprise: "PredictionError", *, has_acted: bool
    ) -> None:
        """Publish the prediction of a transition, and the surprise of its required channels for the supervisor.

        Args:
            has_acted: Whether the agent had acted before.
        """
        self._prediction.publish(
            convert.make_observation_message(surprise.mean, self._spec, transition.stamp)
        )
        nll = surprise.nll if self._is_required.all() else surprise.compute_nll(self._is_required)
        self._surprise.publish(convert.make_number_message(nll))
        if self._transition.get_subscription_count():
            self._transition.publish(
                convert.make_json_message(describe_transition(transition, nll, has_acted))
            )
