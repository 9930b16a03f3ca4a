"""Validation report of an agent: publishes what it runs and its validation record, for a plant that checks both."""

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.node import Node
from std_msgs.msg import String

from wm_robot.errors import ConfigError, WmRobotError
from wm_robot.io.base_file import resolve_base_folder
from wm_robot.robots import find_spec_path, load_spec
from wm_robot.sharing.find_record import FoundRecord, find_valid_record
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.record_claim import RecordClaim
from wm_robot.validation_record.installation import (
    compute_whole_spec_digest,
    read_battery_digest,
    read_installation,
)
from wm_robot.validation_record.record import MAX_RECORD_BYTES
from wm_robot.validation_record.rules import damaged_record
from wm_robot.validation_record.session_error import MIN_SESSION_TIME
from wm_robot.validation_record.subject import ValidationSubject
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.qos import LATCHED_QOS
from wm_robot_ros.nodes.agent_parameters import AgentParameters
from wm_robot_ros.state_api.state_session import StateSession

if TYPE_CHECKING:
    from wm_robot.agent.builder import AgentLineage, RobotAgent

REPORT_INTERVAL = 1.0
"""Time between two checks whether the agent continues another snapshot, in s."""
REPEAT_CHECKS = 10
"""Number of checks after which the report is repeated, since the lifetime goes on."""


class ValidationReport:
    """Publishes `~/validation`, and reads from `plant/validation` whether a risk was accepted."""

    def __init__(
        self,
        node: Node,
        robot_agent: "RobotAgent",
        config: AgentParameters,
        session: StateSession,
        resources: ExitStack,
    ):
        """Args:
        resources: Stack that destroys each part when it closes.

        Raises:
            ConfigError: If the record of parameter `validation_record` cannot be read.
        """
        self._node, self._agent, self._config, self._session = node, robot_agent, config, session
        self._base = resolve_base_folder(config.agent.base) if config.agent.base else None
        self._content = _read_record(config.validation_record)
        spec = load_spec(config.robot)
        installation = read_installation()
        self._rate = spec.rate
        self._own: dict[str, Any] = {
            "robot": spec.name,
            "spec": compute_whole_spec_digest(spec),
            "model": spec.model_digest,
            "battery": read_battery_digest(spec.name, find_spec_path(config.robot).parent),
            "version": installation.version,
            "source": installation.source,
        }
        self._found: FoundRecord | None = None
        self._job: Future[FoundRecord] | None = None
        self._snapshot: str | None = None
        self._num_checks = 0
        self._publisher = node.create_publisher(String, "~/validation", LATCHED_QOS)
        resources.callback(node.destroy_publisher, self._publisher)
        plant = node.create_subscription(String, "plant/validation", self._on_plant, LATCHED_QOS)
        resources.callback(node.destroy_subscription, plant)
        lineage = robot_agent.lineage
        if lineage is not None:
            self._publish(self._find_record(lineage))

    def describe(self) -> Mapping[str, str]:
        """Return the digests for the status; empty before the first report."""
        if self._found is None:
            return {}
        subject, signed = self._found.subject, self._found.signed
        return {
            **{
                name: getattr(subject, name)
                for name in ("base", "snapshot", "spec", "model", "version", "source")
            },
            "record": signed.digest if signed else "",
            "status": self._found.judgement.status.value,
            "sentence": self._found.judgement.sentence,
        }

    def update(self) -> None:
        """Publish a finished report, and begin the next one if it is due; it is computed in the worker thread."""
        if self._job is not None:
            if not self._job.done():
                return
            self._publish(self._job.result())
            self._job = None
        lineage = self._agent.lineage
        self._num_checks += 1
        if lineage is None or (lineage.snapshot == self._snapshot and self._num_checks < REPEAT_CHECKS):
            return
        self._snapshot, self._num_checks = lineage.snapshot, 0
        self._job = self._session.worker.submit_job(lambda: self._find_record(lineage))

    def _find_record(self, lineage: "AgentLineage") -> FoundRecord:
        """Find the record of what the agent runs; an error becomes a judgement."""
        error = lineage.session_error
        is_long = error.num_steps >= MIN_SESSION_TIME * self._rate
        subject = ValidationSubject(
            **self._own,
            base=lineage.base,
            snapshot=lineage.snapshot,
            steps=lineage.steps,
            ancestor=None,
            session=error.compute_errors() if is_long else {},
        )
        try:
            return find_valid_record(
                lineage.store,
                subject,
                Keyring(self._config.keys or None),
                rate=self._rate,
                places=[self._base] if self._base else [],
                contents=[self._content] if self._content else [],
            )
        except (WmRobotError, OSError) as error:
            return FoundRecord(judgement=damaged_record(str(error)), subject=subject)

    def _publish(self, found: FoundRecord) -> None:
        changed = self._found is None or self._found.judgement.status is not found.judgement.status
        self._found = found
        claim = RecordClaim(subject=found.subject, record=found.content.decode(errors="replace"))
        self._publisher.publish(convert.make_json_message(claim.to_dict()))
        if changed:
            self._node.get_logger().info(f"validation: {found.judgement.sentence}")

    def _on_plant(self, message: String) -> None:
        """Note in each snapshot that is saved while the plant follows this agent at accepted risk."""
        try:
            values = convert.decode_json_message(message)
            reason, in_force = str(values["accepted_risk"]), bool(values["risk_in_force"])
        except (ValueError, KeyError, TypeError):
            return
        self._session.note = f"accepted risk: {reason[:200]}" if in_force else ""


def _read_record(path: str) -> bytes:
    if not path:
        return b""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"validation_record is {path}, which cannot be read: {error.strerror}. Give the file of a record"
        ) from error
