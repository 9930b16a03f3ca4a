"""Learned-mode check: a plant in front of a real robot follows an agent only with a valid validation record.

An agent is recognised by what it cannot leave out: it answers observations with their stamps, or its status reports
that it acts. A joystick and a foreign controller have stamps of their own, and need no record.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.robots import find_spec_path
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.record_claim import ClaimJudge, RecordClaim, check_risk_reason
from wm_robot.spec import RobotSpec
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot.validation_record.installation import read_battery_digest
from wm_robot.validation_record.rules import Judgement, damaged_record, foreign_record, missing_record
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.parameters import declare_parameter
from wm_robot_ros.middleware.qos import LATCHED_QOS
from wm_robot_ros.middleware.subscriptions import (
    ENDED_NODE,
    UNNAMED_NODE,
    IdentifiedSubscription,
    format_node_name,
    is_same_id,
)

CLAIM_TOPIC, COMMAND_TOPIC = "agent/validation", "joint_command"
NAME_LIFETIME = 1.0
"""Time for which the node of a publisher is remembered, in s: a query of the ROS graph takes part of a period."""
STATUS_LIFETIME = 2.0
"""Time for which the last status of an agent counts, in s; the slowest agent publishes one each 0.5 s."""
CLAIM_LIFETIME = 120.0
"""Time for which a report of an agent counts, in s; an agent repeats it each 10 s."""
RECENT_REFUSAL = 1.0
"""Time after a refused command in which the plant cannot be armed, in s."""
MAX_ANSWERING = 64
"""Largest number of publishers that are remembered as agents."""
SPARE_STAMPS = 16


@dataclass(frozen=True, kw_only=True)
class RecordParameters:
    """Parameters of the check."""

    keys: str
    accept_risk: str
    foreign_controller: str

    @classmethod
    def declare_parameters(cls, node: Node) -> "RecordParameters":
        """Declare the parameters, and return their values.

        Raises:
            ConfigError: If a value is invalid.
        """
        found = cls(
            keys=declare_parameter(
                node,
                "keys",
                "",
                "folder of the keys that validation records are verified with; empty: the user's",
            ),
            accept_risk=declare_parameter(
                node,
                "accept_risk",
                "",
                "reason for following an agent without a valid validation record, logged and shown; empty: refuse it",
            ),
            foreign_controller=declare_parameter(
                node,
                "foreign_controller",
                "",
                "full name of a node that answers observations and is no agent of wm_robot, such as /mpc: it needs "
                "no validation record",
            ),
        )
        check_risk_reason(found.accept_risk)
        if found.foreign_controller and not found.foreign_controller.startswith("/"):
            raise ConfigError(
                f"foreign_controller is '{found.foreign_controller}'; it must be the full name of a node, such as "
                f"/{found.foreign_controller}"
            )
        return found


class LearnedModeCheck:
    """Decides which commands of a plant need a validation record, and whether there is a valid one."""

    def __init__(
        self,
        node: Node,
        spec: RobotSpec,
        robot: str,
        config: RecordParameters,
        *,
        max_age: float,
        throttled_log: ThrottledLog,
    ):
        """Args:
        robot: Name of the robot, or path of its spec; its battery is beside it.
        max_age: Largest age of a command that is accepted, in s.

        Raises:
            ConfigError: If the battery cannot be read.
        """
        self._node, self._config, self._log = node, config, throttled_log
        self._risk = check_risk_reason(config.accept_risk)
        self._judge = ClaimJudge(
            spec,
            lambda: Keyring(config.keys or None),
            battery=read_battery_digest(spec.name, find_spec_path(robot).parent),
        )
        self._claim: RecordClaim | None = None
        self._claim_source, self._claim_time = b"", -math.inf
        self._claim_fault = ""
        self._stamps: dict[int, None] = {}
        """Stamps of the observations that a command can answer, in ns."""
        self._max_stamps = math.ceil(max_age / spec.dt) + SPARE_STAMPS
        self._answering: dict[bytes, None] = {}
        """Publishers that answered an observation."""
        self._active_time = -math.inf
        """Time of the last status of an agent that acts, in s."""
        self._names: dict[tuple[str, bytes], tuple[float, str]] = {}
        self._refused_at = -math.inf
        self._refusal = ""
        self.num_refused = 0
        self.judgement, self._record_digest = missing_record("the state that the agent runs"), ""
        self.is_risk_in_force = False
        """Whether a command of an agent without a valid record was followed."""
        self._publisher = node.create_publisher(String, "~/validation", LATCHED_QOS)
        self._published = ""
        self._subscription = IdentifiedSubscription(node, String, CLAIM_TOPIC, self._on_claim, LATCHED_QOS)
        if self._risk:
            node.get_logger().warning(
                f"accepted risk: agents are followed without a valid record: {self._risk}"
            )
        self.publish()

    def expect_answer(self, stamp: int) -> None:
        """Remember the stamp of an observation that is being published, in ns."""
        self._stamps[stamp] = None
        while len(self._stamps) > self._max_stamps:
            del self._stamps[next(iter(self._stamps))]

    def update_agent(self, active: bool) -> None:
        """Process the status of an agent."""
        self._active_time = time.monotonic() if active else -math.inf

    @property
    def _agent_active(self) -> bool:
        """Whether an agent reports that it acts."""
        return time.monotonic() - self._active_time < STATUS_LIFETIME

    def refuse_command(self, stamp: int, source: bytes) -> str:
        """Return why a command must not be followed; empty if it may.

        Args:
            stamp: Stamp of the command, in ns.
            source: Id of its publisher.
        """
        answers = stamp in self._stamps or source in self._answering
        if answers:
            self._remember(source)
        if not (answers or self._agent_active):
            return ""
        if not self._agent_active and self._is_foreign(source):
            return ""
        if self._claim is not None and time.monotonic() - self._claim_time > CLAIM_LIFETIME:
            self._claim, self._claim_fault = None, f"the agent has not reported it for {CLAIM_LIFETIME:g} s"
            self._update_judgement()
        judged = self._judge_publisher(source) if answers else self.judgement
        if judged.is_valid:
            return ""
        if self._risk:
            self._accept_risk(judged)
            return ""
        self._refused_at, self._refusal = time.monotonic(), judged.sentence
        self.num_refused += 1
        return judged.sentence

    def describe_obstacle(self) -> str:
        """Return the reason against arming while an agent without a valid record commands; empty if there is none."""
        if self._risk:
            return ""
        if self._recent_refusal:
            return self._recent_refusal
        return "" if not self._agent_active or self.judgement.is_valid else self.judgement.sentence

    @property
    def _recent_refusal(self) -> str:
        """Why the last command was refused; empty if that is long ago."""
        return self._refusal if time.monotonic() - self._refused_at < RECENT_REFUSAL else ""

    def check_again(self) -> None:
        """Verify the record again, since the trusted keys may have changed."""
        self._judge.forget()
        self._update_judgement()

    def describe_status(self) -> dict[str, Any]:
        """Return the plain values of the status."""
        return {
            "status": self.judgement.status.value,
            "sentence": self.judgement.sentence,
            "record": self._record_digest,
            "hours_left": round(self.judgement.hours_left, 3),
            "accepted_risk": self._risk,
            "risk_in_force": self.is_risk_in_force,
            "foreign_controller": self._config.foreign_controller,
            "refused": self.num_refused,
            "refusal": self._recent_refusal,
        }

    def describe_diagnostics(self, path: str) -> tuple[str, str, str, dict[str, Any]]:
        """Return the diagnostic status of the record.

        Args:
            path: Name of the node.
        """
        values = self.describe_status()
        words = self.judgement.sentence
        if self._risk:
            words = f"accepted risk: {self._risk}; {words}"
        level = "ok" if not self._risk and (self.judgement.is_valid or not self._agent_active) else "warn"
        return f"{path}: validation", level, words, values

    def publish(self) -> None:
        """Publish what agents record: accepted risk, status and record; only if it has changed."""
        kept = {
            name: self.describe_status()[name]
            for name in ("status", "record", "accepted_risk", "risk_in_force")
        }
        text = repr(kept)
        if text != self._published:
            self._published = text
            self._publisher.publish(convert.make_json_message(kept))

    def _on_claim(self, message: String, source: bytes) -> None:
        try:
            self._claim, self._claim_fault = RecordClaim.parse(message.data), ""
        except SnapshotError as error:
            self._claim, self._claim_fault = None, str(error)
        self._claim_source, self._claim_time = source, time.monotonic()
        self._update_judgement()

    def _update_judgement(self) -> None:
        if self._claim_fault:
            self.judgement, self._record_digest = damaged_record(self._claim_fault), ""
        else:
            self.judgement, self._record_digest = self._judge.judge(self._claim)
        if self.judgement.is_valid:
            self.is_risk_in_force = False
        self.publish()

    def _judge_publisher(self, source: bytes) -> Judgement:
        """Judge the record for a publisher of commands: it must be that of its own node."""
        if self._claim is None or not self.judgement.is_valid:
            return self.judgement
        commands, claims = (
            self._find_node(topic, each)
            for topic, each in ((COMMAND_TOPIC, source), (CLAIM_TOPIC, self._claim_source))
        )
        if commands == claims and commands not in (ENDED_NODE, UNNAMED_NODE, ""):
            return self.judgement
        claims, commands = (name or "several nodes" for name in (claims, commands))
        return foreign_record(f"{claims} reported it, and commands come from {commands}")

    def _is_foreign(self, source: bytes) -> bool:
        wanted = self._config.foreign_controller
        return bool(wanted) and self._find_node(COMMAND_TOPIC, source) == wanted

    def _accept_risk(self, judged: Judgement) -> None:
        if not self.is_risk_in_force:
            self.is_risk_in_force = True
            self._log.report_cause(
                "accepted risk",
                lambda: f"following an agent at accepted risk ({self._risk}): {judged.sentence}",
            )
            self.publish()

    def _remember(self, source: bytes) -> None:
        # An empty id is that of every publisher, where rclpy provides none.
        if source:
            self._answering[source] = None
            while len(self._answering) > MAX_ANSWERING:
                del self._answering[next(iter(self._answering))]

    def _find_node(self, topic: str, source: bytes) -> str:
        """Return the full name of the node of a publisher; without an id that of all publishers, or empty."""
        now = time.monotonic()
        found = self._names.get((topic, source))
        if found is None or now - found[0] > NAME_LIFETIME:
            infos = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
            nodes = {bytes(info.endpoint_gid): format_node_name(info) for info in infos}
            if source:
                name = next((node for each, node in nodes.items() if is_same_id(each, source)), ENDED_NODE)
            else:
                name = next(iter(nodes.values())) if len(set(nodes.values())) == 1 else ""
            if len(self._names) > MAX_ANSWERING:
                self._names.clear()
            found = self._names[topic, source] = now, name
        return found[1]
