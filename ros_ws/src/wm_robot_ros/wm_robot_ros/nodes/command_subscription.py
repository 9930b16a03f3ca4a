"""Command subscription: connects ROS commands and services of a plant to the command arbiter of the library.

It subscribes to commands and to the agent's surprise and status, offers `~/arm` and `~/disarm`, and publishes
interventions on `~/intervention`. `wm_robot.control.command_arbiter` decides which command moves the plant.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from wm_robot.control.command_arbiter import CommandArbiter
from wm_robot.control.remote_commands import RemoteCommands
from wm_robot.safety.heartbeat import Heartbeat
from wm_robot.safety.limit_violations import LimitViolation
from wm_robot.safety.modes import Mode
from wm_robot.spec import RobotSpec
from wm_robot.streams.rejection import STAMP_FAULTS, BadMessageError, RejectionReason
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.input_monitor import MONITORED_EVENTS, InputMonitor, NodeClock, join_sentences
from wm_robot_ros.middleware.parameters import declare_parameter
from wm_robot_ros.middleware.qos import COMMAND_QOS, OUTPUT_QOS, SENSOR_QOS
from wm_robot_ros.middleware.subscriptions import IdentifiedSubscription, PublisherLock
from wm_robot_ros.nodes.learned_mode_check import LearnedModeCheck

FIRST_COMMAND_TIMEOUT = 10.0
"""Time after which a missing first command is logged, in s."""
MODE_LEVELS = {Mode.SAFE_STOP: "error", Mode.HOLD: "warn", Mode.LIMP: "warn"}
CommandDiagnostic = tuple[str, str, str, dict[str, Any]]
"""Name, level, message and values of a diagnostic status."""


@dataclass(frozen=True, kw_only=True)
class CommandParameters:
    """Command parameters of every plant."""

    max_age: float
    timeout: float
    start_armed: bool
    heartbeat_file: str
    hold_if_late: bool

    @classmethod
    def declare_parameters(cls, node: Node, *, armed: bool) -> "CommandParameters":
        """Declare the parameters, and return their values.

        Args:
            armed: Default of the parameter `armed`.
        """
        return cls(
            max_age=declare_parameter(
                node,
                "command.max_age",
                0.1,
                "s; a command for an older observation is rejected",
                bounds=(0, 10),
            ),
            timeout=declare_parameter(
                node, "command.timeout", 0.5, "s without commands until the plant holds", bounds=(0, 3600)
            ),
            start_armed=declare_parameter(
                node, "armed", armed, "follow the first command; false: only after ~/arm"
            ),
            heartbeat_file=declare_parameter(
                node,
                "heartbeat_file",
                "",
                "file of the memory that agent, plant and wm-robot guard share; the plant moves only while the guard "
                "runs; empty: none",
            ),
            hold_if_late=declare_parameter(
                node, "hold_if_late", True, "hold after too many missed deadlines; false: only count them"
            ),
        )


class CommandSubscription:
    """Connects a plant node to the arbiter of its control loop."""

    def __init__(
        self,
        node: Node,
        spec: RobotSpec,
        config: CommandParameters,
        last_action: np.ndarray,
        *,
        mode: Mode,
        arming_obstacle: Callable[[], str] = lambda: "",
        on_first_command: Callable[[], None] = lambda: None,
        on_armed: Callable[[], None] = lambda: None,
        make_check: Callable[[ThrottledLog], LearnedModeCheck] | None = None,
    ):
        """Args:
        last_action: Action in force, `A`; see `restart_from`.
        mode: Initial mode.
        make_check: Makes the check of the agent's validation record; None: a simulated plant needs none.
        arming_obstacle: Returns a further reason against arming; empty: none.
        on_first_command: Called after the first command.
        on_armed: Called after `~/arm` succeeded.
        """
        self._node, self.spec, self._max_age = node, spec, config.max_age
        self._arming_obstacle, self._on_first_command, self._on_armed = (
            arming_obstacle,
            on_first_command,
            on_armed,
        )
        self.remote = RemoteCommands(spec, last_action, max_age=config.max_age, timeout=config.timeout)
        self.arbiter = CommandArbiter(
            spec,
            self.remote,
            last_action,
            mode=mode,
            hold_if_late=config.hold_if_late,
            guard=Heartbeat(Path(config.heartbeat_file)) if config.heartbeat_file else None,
        )
        self._logged_mode: Mode | None = None
        self._last_stamp = 0
        """Stamp of the last observation, in ns."""
        self.throttled_log = ThrottledLog(node.get_logger().warning)
        self.check = make_check(self.throttled_log) if make_check else None
        self._publisher_lock = PublisherLock(node, "joint_command", self.throttled_log, block_rejected=True)
        self.clock = NodeClock(node, self.throttled_log, spec.dt)

        self._intervention_publisher = node.create_publisher(String, "~/intervention", OUTPUT_QOS)
        commands = IdentifiedSubscription(
            node,
            JointState,
            "joint_command",
            self._on_command,
            COMMAND_QOS,
            event_callbacks=MONITORED_EVENTS,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._command_monitor = InputMonitor(
            node,
            commands.subscription,
            self.throttled_log,
            missing="no commands, holding position",
            rejected="command rejected",
            needs="each with the stamp of the observation that it answers",
            remedy="Start an agent and activate it; its ~/status lists missing inputs.",
            log_delay=FIRST_COMMAND_TIMEOUT,
        )
        node.create_subscription(Float64, "agent/surprise", self._on_surprise, SENSOR_QOS)
        node.create_subscription(String, "agent/status", self._on_agent_status, SENSOR_QOS)
        node.create_service(Trigger, "~/arm", self._on_arm)
        node.create_service(Trigger, "~/disarm", self._on_disarm)

    def restart_from(self, last_action: np.ndarray) -> None:
        """Restart from the action in force, `A`, as before the first command."""
        self.remote.restart_from(last_action)
        self.arbiter.restart_from(last_action)

    def _on_command(self, message: JointState, source: bytes) -> None:
        now, stamp, intake = self._read_clock(), convert.read_stamp(message), self.remote.buffer
        # First the cheap check: a flood of messages must neither load the node nor disable the controller.
        if self._publisher_lock.rejects_publisher(source):
            intake.rejections.count_rejection(RejectionReason.SOURCE)
            return
        if not self.clock.is_running(now):
            intake.rejections.count_rejection(RejectionReason.NO_CLOCK)
            return
        refusal = intake.reject_untimely(stamp, now)
        if refusal:
            if refusal is not RejectionReason.DUPLICATE:
                self._command_monitor.record_rejection(refusal, STAMP_FAULTS[refusal])
            return
        try:
            action = convert.decode_action_message(message, self.spec)
        except BadMessageError as error:
            self.remote.reject_command(error)
            self._command_monitor.record_rejection(error.reason, str(error))
            return
        if self._refuse_unvalidated(stamp, source):
            return
        first, moment = not intake.has_started, time.monotonic_ns()
        self.remote.accept_command(action, stamp, now, monotonic_now=moment)
        self._command_monitor.record_use(moment / 1e9)
        self._publisher_lock.lock_to(source)
        if first:
            self._on_first_command()

    def _refuse_unvalidated(self, stamp: int, source: bytes) -> bool:
        """Whether a command is rejected, because it is of an agent without a valid record."""
        why = self.check.refuse_command(stamp, source) if self.check else ""
        if not why:
            return False
        self.remote.buffer.rejections.count_rejection(RejectionReason.UNVALIDATED)
        self._command_monitor.record_rejection(RejectionReason.UNVALIDATED, why)
        if self.arbiter.mode is Mode.LEARNED:
            # The record has stopped counting: without this, the last command would hold until the timeout.
            self.remote.fault = why
        return True

    def _on_surprise(self, message: Float64) -> None:
        self.remote.surprise = float(message.data)

    def _on_agent_status(self, message: String) -> None:
        try:
            status = convert.decode_json_message(message)
            active, fault = bool(status["active"]), str(status["fault"])
        except (ValueError, KeyError, TypeError):
            # Status of another kind of agent; only its commands are used.
            return
        if self.check:
            self.check.update_agent(active)
        if self.remote.update_agent(active, fault):
            self._publisher_lock.release_ended()

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Permit the plant to move."""
        missing = self.check_inputs()
        if self.check:
            self.check.check_again()
        why_not = self.clock.fault or self._arming_obstacle() or self.arbiter.request_arming()
        if not why_not:
            self._publisher_lock.accept_new_publisher(silent=self.remote.buffer.is_holding)
            self._on_armed()
        response.success = not why_not
        response.message = why_not or join_sentences([f"armed in mode {self.arbiter.mode.value}", *missing])
        return response

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forbid the plant to move."""
        self.arbiter.request_disarming()
        response.success, response.message = True, f"disarmed in mode {self.arbiter.mode.value}"
        return response

    def make_stamp(self) -> int:
        """Return a stamp for an observation, in ns. It increases strictly, except after a clock was set back."""
        now, last = self._read_clock(), self._last_stamp
        set_back = last - now > round(self._max_age * 1e9)
        self._last_stamp = now if set_back else max(now, last + 1)
        return self._last_stamp

    def publish_intervention(self, stamp: int, violations: tuple[LimitViolation, ...]) -> None:
        """Publish an intervention of gate or fallback controller in the period that led to an observation, if any.

        The observation with that stamp follows, and requires a command.
        """
        self.remote.expect_answer(stamp)
        if self.check:
            self.check.expect_answer(stamp)
        if self.remote.has_started and self.arbiter.has_intervened(violations):
            rules = tuple(violation.rule for violation in violations)
            values = {"stamp": stamp, "mode": self.arbiter.mode.value, "violations": rules}
            self._intervention_publisher.publish(convert.make_json_message(values))

    def log_mode(self) -> bool:
        """Log a changed mode; return whether it has changed. Call between two periods, because a line takes time."""
        mode = self.arbiter.mode
        if mode is self._logged_mode:
            return False
        self._logged_mode = mode
        text = f"mode {mode.value}: {self.arbiter.supervisor.reason}"
        # Two calls, because rclpy permits only one level for each line of code.
        if mode in MODE_LEVELS:
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().info(text)
        return True

    def check_inputs(self) -> list[str]:
        """Check the inputs, log the missing ones, and return a sentence for each."""
        started, holding = self.remote.buffer.has_started, self.remote.buffer.is_holding
        still = self.clock.check_clock()
        # After the first command the log of the mode reports a lost controller.
        self._command_monitor.check_input((holding or not started) and not still, write_log=not started)
        return self.inputs_missing

    @property
    def inputs_missing(self) -> list[str]:
        """Missing inputs at the last check, a sentence for each."""
        return [words for words in (self.clock.fault, self._command_monitor.description) if words]

    def describe_status(self) -> dict[str, Any]:
        intake = self.remote.buffer
        return {
            "missing": self.inputs_missing,
            "clock": self.clock.to_dict(),
            "holding": intake.is_holding,
            "mode": self.arbiter.supervisor.mode.value,
            "reason": self.arbiter.supervisor.reason,
            "commands": {
                "accepted": intake.num_accepted,
                "rejected": intake.rejections.to_dict(),
                "silent_periods": intake.silent_periods,
                "longest_silence": intake.longest_silence,
                "unanswered": self.arbiter.num_unanswered,
            },
            "latency": self.remote.latency.to_dict(),
            **({"validation": self.check.describe_status()} if self.check else {}),
        }

    def describe_diagnostics(self, gate: dict[str, Any]) -> tuple[CommandDiagnostic, ...]:
        """Return the diagnostic status of the commands, of the safety mode, and of the validation record if needed.

        Args:
            gate: Values of the gate, for the safety status.
        """
        self._publisher_lock.check_publisher()
        missing = self.check_inputs()
        path = self._node.get_fully_qualified_name().lstrip("/")
        intake = self.remote.buffer
        wrong = [words for words in self.throttled_log.list_active_causes() if words not in missing]
        rejected = {f"rejected_{name}": count for name, count in intake.rejections.to_dict().items()}
        mode = self.arbiter.supervisor.mode
        return (
            (
                f"{path}: commands",
                "warn" if missing or wrong else "ok",
                "; ".join((*(missing or ["following commands"]), *wrong)),
                {
                    "accepted": intake.num_accepted,
                    "longest_silence": intake.longest_silence,
                    **rejected,
                    **self.clock.to_dict(),
                },
            ),
            (
                f"{path}: safety",
                MODE_LEVELS.get(mode, "ok"),
                f"{mode.value}: {self.arbiter.supervisor.reason}",
                {"mode": mode.value, **gate},
            ),
            *((self.check.describe_diagnostics(path),) if self.check else ()),
        )

    def _read_clock(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
