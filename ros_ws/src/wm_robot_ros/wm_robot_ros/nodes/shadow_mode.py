"""Shadow mode of an agent node: it runs beside the controller that drives a robot, and commands nothing."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rclpy.node import Node
from std_msgs.msg import String

from wm_robot.errors import ConfigError
from wm_robot.spec import RobotSpec
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.idle_tasks import IdleTasks
from wm_robot_ros.middleware.qos import LATCHED_QOS
from wm_robot_ros.state_api.live_report import LiveReport

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent

DRIVING_NODE = "agent"
"""Node name whose status and surprise a plant reads."""
REPORT_PERIOD, COMPUTE_PERIOD = 1.0, 0.1
"""Time between two messages of `~/report`, and between two computations of open-loop predictions, in s."""


def check_shadow_mode(node: Node, *, heartbeat_file: str) -> None:
    """Refuse what makes a plant or a guard take an agent in shadow mode for the one that drives.

    Raises:
        ConfigError: If the node has the name of the agent that drives, or a guard.
    """
    if node.get_name() == DRIVING_NODE:
        raise ConfigError(
            f"shadow is true, and the node is called '{DRIVING_NODE}', whose status and surprise a plant reads. "
            "Give it another name: -r __node:=shadow"
        )
    if heartbeat_file:
        raise ConfigError(
            f"shadow is true, and heartbeat_file is '{heartbeat_file}'; a guard watches the agent that drives. "
            "Leave it empty"
        )


def publish_report(
    node: Node, agent: "Agent", spec: RobotSpec, idle_tasks: IdleTasks, resources: ExitStack
) -> tuple[LiveReport, Callable[[], None]]:
    """Create the live report of an agent in shadow mode, and publish it on `~/report` in idle time.

    Args:
        resources: Stack that destroys each part when it closes.

    Returns:
        The report, and a function that publishes it now.
    """
    report = LiveReport(agent, spec)
    publisher = node.create_publisher(String, "~/report", LATCHED_QOS)
    resources.callback(node.destroy_publisher, publisher)

    def publish_now() -> None:
        if report.num_steps:
            publisher.publish(convert.make_json_message(report.to_dict()))

    resources.callback(idle_tasks.add_periodic(REPORT_PERIOD, publish_now))
    resources.callback(idle_tasks.add_periodic(COMPUTE_PERIOD, report.compute_due))
    return report, publish_now
