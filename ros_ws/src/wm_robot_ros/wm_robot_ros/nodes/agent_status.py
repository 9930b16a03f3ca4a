"""Agent status: `~/status` and `/diagnostics` of an agent, as messages and as a file."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import String

from wm_robot.agent.builder import AgentConfig
from wm_robot.control.agent_loop import AgentLoop
from wm_robot.io.durable import write_file
from wm_robot.spec import RobotSpec
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.input_monitor import join_sentences
from wm_robot_ros.middleware.qos import HEARTBEAT_QOS, OUTPUT_QOS
from wm_robot_ros.nodes.agent_inputs import AgentInputs
from wm_robot_ros.state_api.state_session import StateSession

if TYPE_CHECKING:
    from wm_robot.agent.agent import PredictionError
    from wm_robot.agent.builder import RobotAgent

ACKNOWLEDGE_TIMEOUT = Duration(seconds=0.5)
"""Longest wait for the subscribers of the last status."""


class StatusSources(NamedTuple):
    """Parts of an agent that its status reads."""

    spec: RobotSpec
    config: AgentConfig
    robot_agent: "RobotAgent"
    loop: "AgentLoop[PredictionError]"
    session: StateSession
    inputs: AgentInputs
    throttled_log: ThrottledLog
    is_shadow: bool
    """Whether another controller drives."""
    describe_process: Callable[[], dict[str, Any]]
    """Returns the state of the process: real time, garbage collection and log."""
    describe_validation: Callable[[], Mapping[str, str]]
    """Returns the digests of what the agent runs, and of its validation record."""


DiagnosticComponent = tuple[str, str, str, dict[str, Any]]
"""Name, level, message and values of a diagnostic status."""


class AgentStatus:
    """Publishes `~/status` and `/diagnostics`."""

    def __init__(self, node: Node, sources: StatusSources, resources: ExitStack):
        """Args:
        resources: Stack that destroys each publisher when it closes.
        """
        self._node, self._sources = node, sources
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._status = node.create_publisher(String, "~/status", HEARTBEAT_QOS)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT_QOS)
        for publisher in (self._status, self._diagnostics):
            resources.callback(node.destroy_publisher, publisher)

    @property
    def fault(self) -> str:
        """Error that stopped the agent or prevents saving its state; empty if there is none."""
        return self._sources.loop.fault or self._sources.session.record.error

    def compute_values(self) -> dict[str, Any]:
        """Return the plain values of `~/status`."""
        loop, agent, inputs = self._sources.loop, self._sources.robot_agent, self._sources.inputs
        return {
            "active": loop.active,
            "shadow": self._sources.is_shadow,
            "fault": self.fault,
            "num_actions": loop.num_actions,
            "degraded_steps": loop.deadline_budget.degraded_steps,
            "lifetime": dict(agent.counters),
            "surprise": loop.surprise,
            "sensor_faults": inputs.sensors.find_faults() if loop.active else {},
            "rejected": inputs.assembler.rejections.to_dict(),
            "latency": loop.latency.to_dict(),
            "act": loop.act_time.to_dict(),
            "learn": loop.learn_time.to_dict(),
            "validation": dict(self._sources.describe_validation()),
            **self._sources.describe_process(),
            **inputs.health.to_dict(),
            **agent.report(),
        }

    def publish_status(self) -> None:
        """Publish `~/status`."""
        self._status.publish(convert.make_json_message(self.compute_values()))

    def publish_last(self) -> None:
        """Publish `~/status` and wait for its subscribers, because the message is lost with its publisher."""
        self.publish_status()
        self._status.wait_for_all_acked(ACKNOWLEDGE_TIMEOUT)

    def publish_diagnostics(self) -> None:
        """Check the inputs, and publish `/diagnostics`."""
        self._sources.inputs.check_inputs()
        report = self._sources.robot_agent.report()
        stamp = int(self._node.get_clock().now().nanoseconds)
        sensors = self._sources.inputs.sensors
        components = (
            self._describe_inference(),
            self._describe_observations(),
            self._describe_lifetime(report),
            *(sensors.describe_diagnostics(self._name) if self._sources.loop.active else ()),
        )
        self._diagnostics.publish(
            convert.make_diagnostics_message(stamp, self._sources.spec.name, components)
        )

    def write_status(self, path: Path) -> None:
        """Write the values of `~/status` to a file.

        Raises:
            OSError: If the file cannot be written.
        """
        write_file(path, json.dumps(self.compute_values()).encode())

    @property
    def _idle_level(self) -> str:
        return "ok" if self._sources.loop.active else "stale"

    def _describe_inference(self) -> DiagnosticComponent:
        loop, missing = self._sources.loop, self._sources.inputs.health.missing
        late = loop.latency.compute_percentile(99)
        slow = late > 1e3 * self._sources.spec.dt
        words = (
            self.fault
            or join_sentences(missing)
            or ("slower than the control period" if slow else "")
            or (("in shadow mode" if self._sources.is_shadow else "acting") if loop.active else "idle")
        )
        level = "error" if self.fault else "warn" if slow or missing else self._idle_level
        values = {
            "num_actions": loop.num_actions,
            "latency_p50_ms": loop.latency.compute_percentile(50),
            "latency_p99_ms": late,
        }
        return f"{self._name}: inference", level, words, values

    def _describe_observations(self) -> DiagnosticComponent:
        health, rejected = self._sources.inputs.health, self._sources.inputs.assembler.rejections
        wrong = [
            words for words in self._sources.throttled_log.list_active_causes() if words not in health.missing
        ]
        values = {**rejected.to_dict(), **health.unusable_transitions.to_dict(), **health.clock.to_dict()}
        words = "; ".join(wrong) or health.describe_past_faults(rejected.total)
        return f"{self._name}: observations", "warn" if wrong else "ok", words, values

    def _describe_lifetime(self, report: dict[str, object]) -> DiagnosticComponent:
        config, valid = self._sources.config, bool(report.get("plans_valid", True))
        words = ("learning" if config.learning else "frozen") + (
            "" if valid else "; predicted rewards of plans do not occur"
        )
        values = {
            **self._sources.robot_agent.counters,
            **report,
            "surprise": self._sources.loop.surprise,
            "base": config.base,
        }
        return f"{self._name}: lifetime", self._idle_level if valid else "warn", words, values
