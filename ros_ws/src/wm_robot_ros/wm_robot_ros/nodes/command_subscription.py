"""Command subscription: connects ROS commands and services of a plant to the command arbiter of the library.

It subscribes to commands and to the agent's surprise and status, offers `~/arm` and `~/disarm`, and publishes
interventions on `~/contact`. `wm_robot.control.command_arbiter` decides which command moves the plant.
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
"""Time after which a missing first command is logged, in s."""
LEVELS = {Mode.SAFE_STOP: "error", Mode.HOLD: "warn", Mode.LIMP: "warn"}
Component = tuple[str, str, str, dict[str, Any]]
"""Name, level, message and values of a diagnostic status."""


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """Command parameters of every plant."""

    max_age: float
    timeout: float
    armed: bool
    guard: str
    hold_if_late: bool

    @classmethod
    def declare(cls, node: Node, *, armed: bool) -> "CommandConfig":
        """Declare the parameters, and return their values.

        Args:
            armed: Default of the parameter `armed`.
        """
        return cls(
            max_age=declare(
                node,
                "command.max_age",
                0.1,
                "s; a command for an older observation is rejected",
                bounds=(0, 10),
            ),
            timeout=declare(
                node, "command.timeout", 0.5, "s without commands until the plant holds", bounds=(0, 3600)
            ),
            armed=declare(node, "armed", armed, "follow the first command; false: only after ~/arm"),
            guard=declare(
                node,
                "guard",
                "",
                "memory page shared with wm-robot guard, which must run for the plant to move; empty: none",
            ),
            hold_if_late=declare(
                node, "hold_if_late", True, "hold after too many missed deadlines; false: only count them"
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
        last_action: Action in force, `A`; see `restart_from`.
        mode: Initial mode.
        arming_obstacle: Returns a further reason against arming; empty: none.
        on_first_command: Called after the first command.
        on_armed: Called after `~/arm` succeeded.
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
        """Stamp of the last observation, in ns."""
        self.complaints = Complaints(node.get_logger().warning)
        self._commander = OneSpeaker(node, "joint_command", self.complaints, wary=True)
        self.clock = NodeClock(node, self.complaints, spec.dt)

        self._contact = node.create_publisher(String, "~/contact", OUTPUT)
        subscription = node.create_subscription(
            JointState,
            "joint_command",
            FromWhom(self._on_command),
            # A copy, because overriding parameters are written into the profile.
            copy(COMMAND),
            event_callbacks=WATCHED,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._input = InputWatch(
            node,
            subscription,
            self.complaints,
            missing="no commands, holding position",
            refused="command rejected",
            needs="each with the stamp of the observation that it answers",
            remedy="Start an agent and activate it; its ~/status lists missing inputs.",
            patience=AGENT_LOADS,
        )
        node.create_subscription(Float64, "agent/surprise", self._on_surprise, SENSOR)
        node.create_subscription(String, "agent/status", self._on_agent, SENSOR)
        node.create_service(Trigger, "~/arm", self._on_arm)
        node.create_service(Trigger, "~/disarm", self._on_disarm)

    def begin(self, hold: np.ndarray) -> None:
        """Restart from the action in force, `A`, as before the first command."""
        self.remote.begin(hold)
        self.arbiter.begin(hold)

    def _on_command(self, message: JointState, source: bytes) -> None:
        now, stamp, intake = self._now(), convert.stamp_of(message), self.remote.intake
        # First the cheap check: a flood of messages must neither load the node nor disable the controller.
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
            # Status of another kind of agent; only its commands are used.
            return
        if self.remote.update_agent(active, trouble):
            self._commander.end()

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Permit the plant to move."""
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

    def next_stamp(self) -> int:
        """Return a stamp for an observation, in ns. It increases strictly, except after a clock was set back."""
        now, last = self._now(), self._stamp
        set_back = last - now > round(self._max_age * 1e9)
        self._stamp = now if set_back else max(now, last + 1)
        return self._stamp

    def publish_contact(self, stamp: int, cuts: tuple[Cut, ...]) -> None:
        """Publish an intervention of gate or fallback controller in the period that led to an observation, if any.

        The observation with that stamp follows, and requires a command.
        """
        self.remote.expect_answer(stamp)
        if self.remote.started and self.arbiter.intervened(cuts):
            rules = tuple(cut.rule for cut in cuts)
            values = {"stamp": stamp, "mode": self.arbiter.mode.value, "cuts": rules}
            self._contact.publish(convert.json_message(values))

    def log_mode(self) -> bool:
        """Log a changed mode; return whether it has changed. Call between two periods, because a line takes time."""
        mode = self.arbiter.mode
        if mode is self._logged:
            return False
        self._logged = mode
        text = f"mode {mode.value}: {self.arbiter.supervisor.reason}"
        # Two calls, because rclpy permits only one level for each line of code.
        if mode in LEVELS:
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().info(text)
        return True

    def look(self) -> list[str]:
        """Check the inputs, log the missing ones, and return a sentence for each."""
        started, holding = self.remote.intake.started, self.remote.intake.holding
        still = self.clock.look()
        # After the first command the log of the mode reports a lost controller.
        self._input.look((holding or not started) and not still, logs=not started)
        return self.missing

    @property
    def missing(self) -> list[str]:
        """Missing inputs at the last check, a sentence for each."""
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
        """Return the diagnostic status of the commands and of the safety mode.

        Args:
            gate: Values of the gate, for the safety status.
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
