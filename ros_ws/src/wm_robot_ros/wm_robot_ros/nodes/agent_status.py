"""Agent status: `~/status` and `/diagnostics` of an agent, as messages and as a file."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import String

from wm_robot.agent.builder import LifeConfig
from wm_robot.control.agent_loop import AgentLoop
from wm_robot.io.durable import write_file
from wm_robot.spec import RobotSpec
from wm_robot.streams.throttled_log import Complaints
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.input_monitor import joined
from wm_robot_ros.middleware.qos import HEARTBEAT, OUTPUT
from wm_robot_ros.nodes.agent_inputs import AgentInputs
from wm_robot_ros.state_api.state_session import StateSession

if TYPE_CHECKING:
    from wm_robot.agent.agent import Surprise
    from wm_robot.agent.builder import RobotLife

ACKNOWLEDGED = Duration(seconds=0.5)
"""Longest wait for the subscribers of the last status."""


class StatusSources(NamedTuple):
    """Parts of an agent that its status reads."""

    spec: RobotSpec
    config: LifeConfig
    life: "RobotLife"
    loop: "AgentLoop[Surprise]"
    session: StateSession
    inputs: AgentInputs
    complaints: Complaints
    process: Callable[[], dict[str, Any]]
    """Returns the state of the process: real time, garbage collection and log."""


Component = tuple[str, str, str, dict[str, Any]]
"""Name, level, message and values of a diagnostic status."""


class AgentStatus:
    """Publishes `~/status` and `/diagnostics`."""

    def __init__(self, node: Node, sources: StatusSources, resources: ExitStack):
        """Args:
        resources: Stack that destroys each publisher when it closes.
        """
        self._node, self._from = node, sources
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._status = node.create_publisher(String, "~/status", HEARTBEAT)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT)
        for publisher in (self._status, self._diagnostics):
            resources.callback(node.destroy_publisher, publisher)

    @property
    def trouble(self) -> str:
        """Error that stopped the agent or prevents saving its state; empty if there is none."""
        return self._from.loop.trouble or self._from.session.record.error

    def values(self) -> dict[str, Any]:
        """Return the plain values of `~/status`."""
        loop, life, inputs = self._from.loop, self._from.life, self._from.inputs
        return {
            "active": loop.active,
            "trouble": self.trouble,
            "acted": loop.acted,
            "hurried": loop.slack.hurried,
            "life": dict(life.counters),
            "surprise": loop.surprise,
            "refused": inputs.pairing.refusals.to_dict(),
            "latency": loop.latency.to_dict(),
            "act": loop.act_time.to_dict(),
            "live": loop.learn_time.to_dict(),
            **self._from.process(),
            **inputs.health.to_dict(),
            **life.report(),
        }

    def publish(self) -> None:
        """Publish `~/status`."""
        self._status.publish(convert.json_message(self.values()))

    def publish_last(self) -> None:
        """Publish `~/status` and wait for its subscribers, because the message is lost with its publisher."""
        self.publish()
        self._status.wait_for_all_acked(ACKNOWLEDGED)

    def publish_diagnostics(self) -> None:
        """Check the inputs, and publish `/diagnostics`."""
        self._from.inputs.check()
        report = self._from.life.report()
        stamp = int(self._node.get_clock().now().nanoseconds)
        components = (self._inference(), self._observations(), self._lifetime(report))
        self._diagnostics.publish(convert.diagnostics_message(stamp, self._from.spec.name, components))

    def write(self, path: Path) -> None:
        """Write the values of `~/status` to a file.

        Raises:
            OSError: If the file cannot be written.
        """
        write_file(path, json.dumps(self.values()).encode())

    @property
    def _idle_level(self) -> str:
        return "ok" if self._from.loop.active else "stale"

    def _inference(self) -> Component:
        loop, missing = self._from.loop, self._from.inputs.health.missing
        late = loop.latency.percentile(99)
        slow = late > 1e3 * self._from.spec.dt
        words = (
            self.trouble
            or joined(missing)
            or ("slower than the control period" if slow else "")
            or ("acting" if loop.active else "idle")
        )
        level = "error" if self.trouble else "warn" if slow or missing else self._idle_level
        values = {"acted": loop.acted, "latency_p50_ms": loop.latency.percentile(50), "latency_p99_ms": late}
        return f"{self._name}: inference", level, words, values

    def _observations(self) -> Component:
        health, refused = self._from.inputs.health, self._from.inputs.pairing.refusals
        wrong = [words for words in self._from.complaints.present() if words not in health.missing]
        values = {**refused.to_dict(), **health.unlearned.to_dict(), **health.clock.to_dict()}
        words = "; ".join(wrong) or health.so_far(refused.total)
        return f"{self._name}: observations", "warn" if wrong else "ok", words, values

    def _lifetime(self, report: dict[str, object]) -> Component:
        config, kept = self._from.config, bool(report.get("plans_kept", True))
        words = ("learning" if config.learning else "frozen") + (
            "" if kept else "; predicted rewards of plans do not occur"
        )
        values = {
            **self._from.life.counters,
            **report,
            "surprise": self._from.loop.surprise,
            "base": config.base,
        }
        return f"{self._name}: lifetime", self._idle_level if kept else "warn", words, values
