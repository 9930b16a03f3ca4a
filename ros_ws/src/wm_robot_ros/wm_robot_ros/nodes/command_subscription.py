"""Commands and services of a plant: ROS messages for the library's arbiter, and its decisions as messages.

It subscribes to commands and to the agent's surprise and status, offers `~/arm` and `~/disarm`, and publishes
`~/contact`. What of them moves the plant is decided in `wm_robot.control.command_arbiter`.
"""

import time
from collections.abc import Callable
from copy import copy
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
from wm_robot.safety.limit_violations import Cut
from wm_robot.safety.modes import Mode
from wm_robot.spec import RobotSpec
from wm_robot.streams.rejection import UNTIMELY, BadMessageError, Refusal
from wm_robot.streams.throttled_log import Complaints
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.input_monitor import WATCHED, InputWatch, NodeClock, joined
from wm_robot_ros.middleware.parameters import declare
from wm_robot_ros.middleware.qos import COMMAND, OUTPUT, SENSOR
from wm_robot_ros.middleware.subscriptions import FromWhom, OneSpeaker

AGENT_LOADS = 10.0
"""Patience of the log for the first command, in s."""
LEVELS = {Mode.SAFE_STOP: "error", Mode.HOLD: "warn", Mode.LIMP: "warn"}
Component = tuple[str, str, str, dict[str, Any]]
"""Of /diagnostics: name, level, words, values."""


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """Parameters that every plant has."""

    max_age: float
    timeout: float
    armed: bool
    guard: str
    hold_if_late: bool

    @classmethod
    def declare(cls, node: Node, *, armed: bool) -> "CommandConfig":
        """Args:
        armed: What it is unless somebody says otherwise.
        """
        return cls(
            max_age=declare(
                node,
                "command.max_age",
                0.1,
                "s; a command for an older observation is refused",
                bounds=(0, 10),
            ),
            timeout=declare(
                node, "command.timeout", 0.5, "s without commands until it holds position", bounds=(0, 3600)
            ),
            armed=declare(node, "armed", armed, "follow the first command; false: only after ~/arm"),
            guard=declare(
                node,
                "guard",
                "",
                "page shared with wm-robot guard, without which it stands still; empty: none",
            ),
            hold_if_late=declare(
                node, "hold_if_late", True, "too many missed deadlines end in hold; false: they are counted"
            ),
        )


class CommandSubscription:
    """Connects a plant node to the arbiter of its control loop."""

    def __init__(
        self,
        node: Node,
        spec: RobotSpec,
        config: CommandConfig,
        hold: np.ndarray,
        *,
        mode: Mode,
        why_not: Callable[[], str] = lambda: "",
        on_first_command: Callable[[], None] = lambda: None,
        on_armed: Callable[[], None] = lambda: None,
    ):
        """Args:
        hold: Action in force, `A`; see `begin`.
        mode: The first.
        why_not: What else keeps it from being armed; empty: nothing.
        on_first_command: Called after the first command.
        on_armed: Called when somebody says that it may move again.
        """
        self._node, self.spec, self._max_age = node, spec, config.max_age
        self._why_not, self._on_first_command, self._on_armed = why_not, on_first_command, on_armed
        self.remote = RemoteCommands(spec, hold, max_age=config.max_age, timeout=config.timeout)
        self.arbiter = CommandArbiter(
            spec,
            self.remote,
            hold,
            mode=mode,
            hold_if_late=config.hold_if_late,
            guard=Heartbeat(Path(config.guard)) if config.guard else None,
        )
        self._logged: Mode | None = None
        self._stamp = 0
        """Of the last observation, in ns."""
        self.complaints = Complaints(node.get_logger().warning)
        self._commander = OneSpeaker(node, "joint_command", self.complaints, wary=True)
        self.clock = NodeClock(node, self.complaints, spec.dt)

        self._contact = node.create_publisher(String, "~/contact", OUTPUT)
        subscription = node.create_subscription(
            JointState,
            "joint_command",
            FromWhom(self._on_command),
            # A copy: what parameters override is written into it.
            copy(COMMAND),
            event_callbacks=WATCHED,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._input = InputWatch(
            node,
            subscription,
            self.complaints,
            missing="no commands, holding position",
            refused="command refused",
            needs="each with the stamp of the observation that it answers",
            remedy="Start an agent and activate it; its ~/status names what it lacks.",
            patience=AGENT_LOADS,
        )
        node.create_subscription(Float64, "agent/surprise", self._on_surprise, SENSOR)
        node.create_subscription(String, "agent/status", self._on_agent, SENSOR)
        node.create_service(Trigger, "~/arm", self._on_arm)
        node.create_service(Trigger, "~/disarm", self._on_disarm)

    def begin(self, hold: np.ndarray) -> None:
        """Begin from an action in force, `A`, as if no command had ever come."""
        self.remote.begin(hold)
        self.arbiter.begin(hold)

    # Subscriptions and services

    def _on_command(self, message: JointState, source: bytes) -> None:
        now, stamp, intake = self._now(), convert.stamp_of(message), self.remote.intake
        # First, and cheaply: a flood must neither keep the node busy nor end a controller's turn.
        if self._commander.refuses(source):
            intake.refusals.add(Refusal.SOURCE)
            return
        if not self.clock.runs(now):
            intake.refusals.add(Refusal.NO_CLOCK)
            return
        refusal = intake.untimely(stamp, now)
        if refusal:
            if refusal is not Refusal.DUPLICATE:
                self._input.refuse(refusal, UNTIMELY[refusal])
            return
        try:
            action = convert.action(message, self.spec)
        except BadMessageError as error:
            self.remote.refuse(error)
            self._input.refuse(error.reason, str(error))
            return
        first, moment = not intake.started, time.monotonic_ns()
        self.remote.accept(action, stamp, now, moment=moment)
        self._input.use(moment / 1e9)
        self._commander.follow(source)
        if first:
            self._on_first_command()

    def _on_surprise(self, message: Float64) -> None:
        self.remote.surprise = float(message.data)

    def _on_agent(self, message: String) -> None:
        try:
            status = convert.json_values(message)
            active, trouble = bool(status["active"]), str(status["trouble"])
        except (ValueError, KeyError, TypeError):
            # Of another kind of agent; its commands alone count.
            return
        if self.remote.update_agent(active, trouble):
            self._commander.end()

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Permit the plant to move again."""
        missing = self.look()
        why_not = self.clock.words or self._why_not() or self.arbiter.arm()
        if not why_not:
            self._commander.arm(silent=self.remote.intake.holding)
            self._on_armed()
        response.success = not why_not
        response.message = why_not or joined([f"armed in mode {self.arbiter.mode.value}", *missing])
        return response

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forbid the plant to move."""
        self.arbiter.disarm()
        response.success, response.message = True, f"disarmed in mode {self.arbiter.mode.value}"
        return response

    # What is published

    def next_stamp(self) -> int:
        """Now, in ns. Two readings never share a stamp; and where a clock was set back, the stamps follow it."""
        now, last = self._now(), self._stamp
        set_back = last - now > round(self._max_age * 1e9)
        self._stamp = now if set_back else max(now, last + 1)
        return self._stamp

    def publish_contact(self, stamp: int, cuts: tuple[Cut, ...]) -> None:
        """Publish that gate or baseline intervened in the period that led to an observation, if they did.

        The observation of that stamp follows; it is to be answered.
        """
        self.remote.expect_answer(stamp)
        if self.remote.started and self.arbiter.intervened(cuts):
            rules = tuple(cut.rule for cut in cuts)
            values = {"stamp": stamp, "mode": self.arbiter.mode.value, "cuts": rules}
            self._contact.publish(convert.json_message(values))

    def log_mode(self) -> bool:
        """Log the mode if it has changed; whether it had. For the time between two periods: a line takes some."""
        mode = self.arbiter.mode
        if mode is self._logged:
            return False
        self._logged = mode
        text = f"mode {mode.value}: {self.arbiter.supervisor.reason}"
        # Two lines, since rclpy lets no line of code log at two levels.
        if mode in LEVELS:
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().info(text)
        return True

    def look(self) -> list[str]:
        """Find out what is missing, and log it: a sentence each."""
        started, holding = self.remote.intake.started, self.remote.intake.holding
        still = self.clock.look()
        # Who has driven it and is gone is no news to the log, which has the mode.
        self._input.look((holding or not started) and not still, logs=not started)
        return self.missing

    @property
    def missing(self) -> list[str]:
        """What was missing at the last look."""
        return [words for words in (self.clock.words, self._input.words) if words]

    def status(self) -> dict[str, Any]:
        intake = self.remote.intake
        return {
            "missing": self.missing,
            "clock": self.clock.to_dict(),
            "holding": intake.holding,
            "mode": self.arbiter.supervisor.mode.value,
            "reason": self.arbiter.supervisor.reason,
            "commands": {
                "accepted": intake.accepted,
                "refused": intake.refusals.to_dict(),
                "silent_periods": intake.silent_periods,
                "longest_silence": intake.longest_silence,
                "unanswered": self.arbiter.unanswered,
            },
            "latency": self.remote.latency.to_dict(),
        }

    def diagnostics(self, gate: dict[str, Any]) -> tuple[Component, Component]:
        """Of /diagnostics: the commands, and the mode.

        Args:
            gate: Values of the gate, for the second.
        """
        self._commander.look()
        missing = self.look()
        path = self._node.get_fully_qualified_name().lstrip("/")
        intake = self.remote.intake
        wrong = [words for words in self.complaints.present() if words not in missing]
        refused = {f"refused_{name}": count for name, count in intake.refusals.to_dict().items()}
        mode = self.arbiter.supervisor.mode
        return (
            (
                f"{path}: commands",
                "warn" if missing or wrong else "ok",
                "; ".join((*(missing or ["following commands"]), *wrong)),
                {
                    "accepted": intake.accepted,
                    "longest_silence": intake.longest_silence,
                    **refused,
                    **self.clock.to_dict(),
                },
            ),
            (
                f"{path}: safety",
                LEVELS.get(mode, "ok"),
                f"{mode.value}: {self.arbiter.supervisor.reason}",
                {"mode": mode.value, **gate},
            ),
        )

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
