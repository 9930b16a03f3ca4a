"""Served agent: the parts of an agent that its services, actions and topics for the lifetime state read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.node import Node

from wm_robot.control.agent_loop import AgentLoop
from wm_robot.spec import RobotSpec
from wm_robot_ros.middleware.idle_tasks import IdleTasks
from wm_robot_ros.state_api.live_report import LiveReport
from wm_robot_ros.state_api.state_session import StateSession

if TYPE_CHECKING:
    from wm_robot.agent.agent import PredictionError
    from wm_robot.agent.builder import RobotAgent


@dataclass(frozen=True, kw_only=True)
class ServedAgent:
    """Parts of a configured agent."""

    node: Node
    spec: RobotSpec
    robot_agent: "RobotAgent"
    loop: "AgentLoop[PredictionError]"
    session: StateSession
    idle_tasks: IdleTasks
    base: str
    """Folder of the base."""
    robot: str
    """Name of the robot, or path of its spec."""
    task: str
    learning: bool
    """False: the lifetime state is read and never updated."""
    live_report: LiveReport | None = None
    """None for an agent that drives."""
