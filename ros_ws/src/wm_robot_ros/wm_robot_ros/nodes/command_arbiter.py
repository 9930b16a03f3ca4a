"""Whose turn it is to move a plant: that of whoever sends commands, or that of the baseline. Every plant has it.

It hears commands, the agent's surprise and how it ends, the guard, and people who arm and disarm. A supervisor
decides.
"""

import math
import time
from collections import deque
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

from wm_robot.control.timing import Histogram
from wm_robot.safety.fallback import Baseline
from wm_robot.safety.heartbeat import Heartbeat
from wm_robot.safety.limit_violations import CONTACT, Cut
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import Report, Supervisor
from wm_robot.spec import RobotSpec
from wm_robot.streams.command_buffer import CommandIntake
from wm_robot.streams.rejection import UNTIMELY, BadMessageError, Refusal
from wm_robot.streams.throttled_log import Complaints
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.input_monitor import WATCHED, InputWatch, NodeClock, joined
from wm_robot_ros.middleware.parameters import declare
from wm_robot_ros.middleware.qos import COMMAND, OUTPUT, SENSOR
from wm_robot_ros.middleware.subscriptions import FromWhom, OneSpeaker

AGENT_LOADS = 10.0
"""Patience of the log for the first command, in s."""
KEPT = 16
"""Observations whose answers are told from other commands."""
BROKEN = {Refusal.NOT_FINITE, Refusal.SIZE}
"""What only a broken controller sends; a command for another robot, or of another time, is merely not used."""
LEVELS = {Mode.SAFE_STOP: "error", Mode.HOLD: "warn", Mode.LIMP: "warn"}
Component = tuple[str, str, str, dict[str, Any]]
"""Of /diagnostics: name, level, words, values."""


@dataclass(frozen=True, kw_only=True)
class TurnConfig:
    """Parameters that every plant has."""

    max_age: float
    timeout: float
    armed: bool
    guard: str
    hold_if_late: bool

    @classmethod
    def declare(cls, node: Node, *, armed: bool) -> "TurnConfig":
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


class WhoseTurn:
    """What comes to a plant from who drives it, and what it decides of that, period by period."""

    def __init__(
        self,
        node: Node,
        spec: RobotSpec,
        config: TurnConfig,
        hold: np.ndarray,
        *,
        mode: Mode,
        why_not: Callable[[], str] = lambda: "",
        began: Callable[[], None] = lambda: None,
        armed: Callable[[], None] = lambda: None,
    ):
        """Args:
        hold: Action in force, `A`; see `begin`.
        mode: The first.
        why_not: What else keeps it from being armed; empty: nothing.
        began: Called after the first command.
        armed: Called when somebody says that it may move again.
        """
        self._node, self.spec, self.config = node, spec, config
        self._why_not, self._began, self._armed = why_not, began, armed
        self.supervisor = Supervisor(spec.safety, mode=mode)
        self._said: Mode | None = None
        self._heartbeat = Heartbeat(Path(config.guard)) if config.guard else None
        self._refused = ""
        """Why the last command showed that its sender is broken."""
        self._broken = ""
        """What the agent said when it stopped by itself."""
        self.surprise: float | None = None
        """Of the agent, not yet judged; in nats per channel."""
        self._agent_active = self._answering = False
        """Whether an agent said that it acts; whether who commands answers observations, and so owes an answer to
        each."""
        self._stamp = 0
        """Of the last observation, in ns."""
        self._asked = False
        """Whether an observation was published in the last period: without one, no answer is owed."""
        self._sent: deque[int] = deque(maxlen=KEPT)
        """Stamps of the last observations, in ns."""
        self.command_ms = math.nan
        """Age of the last command of this period when it came."""
        self.latency = Histogram()
        self._unanswered = 0
        self.complaints = Complaints(node.get_logger().warning)
        self._commander = OneSpeaker(node, "joint_command", self.complaints, wary=True)
        self.clock = NodeClock(node, self.complaints, spec.dt)
        self.begin(hold)

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
        self.commands = InputWatch(
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
        """Begin from an action in force, `A`, as if nobody had commanded anything."""
        self.intake = CommandIntake(
            hold,
            servo=np.array([actuator.unit == "rad" for actuator in self.spec.actuators]),
            max_age=self.config.max_age,
            timeout=self.config.timeout,
        )
        self.baseline = Baseline(self.spec, hold)

    # What is heard

    def _on_command(self, message: JointState, source: bytes) -> None:
        now, stamp = self._now(), convert.stamp_of(message)
        # First, and cheaply: whoever floods it is not to keep it busy, nor to end anybody's turn.
        if self._commander.refuses(source):
            self.intake.refusals.add(Refusal.SOURCE)
            return
        if not self.clock.runs(now):
            self.intake.refusals.add(Refusal.NO_CLOCK)
            return
        refusal = self.intake.untimely(stamp, now)
        if refusal:
            if refusal is not Refusal.DUPLICATE:
                self.commands.refuse(refusal, UNTIMELY[refusal])
            return
        try:
            action = convert.action(message, self.spec)
        except BadMessageError as error:
            self.intake.refusals.add(error.reason)
            self.commands.refuse(error.reason, str(error))
            if error.reason in BROKEN:
                self._refused = f"a command was refused: {error}"
            return
        first = not self.intake.started
        moment = time.monotonic_ns()
        self.intake.offer(action, stamp, now, moment=moment)
        self.commands.use(moment / 1e9)
        self._commander.follow(source)
        self.command_ms = (now - stamp) / 1e6
        self.latency.add(self.command_ms)
        self._answering = stamp in self._sent
        if first:
            self._began()

    def _on_surprise(self, message: Float64) -> None:
        self.surprise = float(message.data)

    def _on_agent(self, message: String) -> None:
        """Hear how an agent ends: in order, or by an error. Whoever falls silent without a word is late."""
        try:
            status = convert.json_values(message)
            active, trouble = bool(status["active"]), str(status["trouble"])
        except (ValueError, KeyError, TypeError):
            # Of another kind of agent; its commands alone count.
            return
        if self._agent_active and not active:
            self._broken = trouble and f"the agent stopped: {trouble}"
            self._answering = False
            self.intake.end()
            self._commander.end()
        self._agent_active = active

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Somebody says that it may move again."""
        missing = self.look()
        why_not = self.clock.words or self._why_not()
        if not why_not and self._heartbeat:
            self._heartbeat.release()
        why_not = why_not or self._guard_says()
        if not why_not:
            self.supervisor.arm()
            self._commander.arm(silent=self.intake.holding)
            self._armed()
        response.success = not why_not
        response.message = why_not or joined([f"armed in mode {self.supervisor.mode.value}", *missing])
        return response

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Somebody says that it may not."""
        self.supervisor.disarm()
        response.success, response.message = True, f"disarmed in mode {self.supervisor.mode.value}"
        return response

    def _guard_says(self) -> str:
        """Why the guard has stopped us; empty if it has not, or there is none."""
        return self._heartbeat.stopped() if self._heartbeat else ""

    # What is decided

    def heed_guard(self, hold: np.ndarray) -> None:
        """Between two periods: stop now if the guard says so.

        Args:
            hold: Action in force, `A`.
        """
        why = self._guard_says()
        if why and self.supervisor.mode is not Mode.SAFE_STOP:
            self._enter(self.supervisor.step(Report(guard=why)), hold)

    def take(self, hold: np.ndarray, *, cuts: tuple[Cut, ...], skipped: int) -> tuple[Mode, np.ndarray]:
        """Whose turn the coming period is, and what he asks for, `A`.

        Args:
            hold: Action in force, `A`.
            cuts: What the gate did to the action before.
            skipped: Periods that this node has missed by itself.
        """
        intake, before = self.intake, self.supervisor.mode
        command = intake.take(time.monotonic_ns())
        # Behind a guard, commands count as long as a process drives that it watches.
        driven = intake.started and not intake.holding and (not self._heartbeat or self._heartbeat.driver > 0)
        learned = before is Mode.LEARNED
        unanswered = learned and self._answering and self._asked and intake.silence > 0
        self._asked = False
        self._unanswered += unanswered
        report = Report(
            cuts=cuts,
            refused=self._refused,
            surprise=self.surprise,
            late=self.config.hold_if_late and (unanswered or (learned and skipped > 0)),
            commanded=driven,
            silent=not driven,
            homed=self.baseline.homed,
            guard=self._guard_says(),
            broken=self._broken,
        )
        self._refused, self._broken, self.surprise = "", "", None
        mode = self.supervisor.step(report)
        if mode is not before:
            self._enter(mode, hold)
        return mode, command if mode is Mode.LEARNED else self.baseline.act()

    def _enter(self, mode: Mode, hold: np.ndarray) -> None:
        if mode is Mode.HOMING:
            self.baseline.go_home(hold)
        else:
            self.baseline.stay(hold)

    # What is said

    def next_stamp(self) -> int:
        """Now, in ns. Two readings never share a stamp; and where a clock was set back, the stamps follow it."""
        now, last = self._now(), self._stamp
        set_back = last - now > round(self.config.max_age * 1e9)
        self._stamp = now if set_back else max(now, last + 1)
        return self._stamp

    def say_contact(self, stamp: int, cuts: tuple[Cut, ...]) -> None:
        """Of the period that led to an observation: whether gate or baseline stood between controller and motors."""
        self._sent.append(stamp)
        self._asked = True
        rules = tuple(cut.rule for cut in cuts)
        if self.intake.started and (CONTACT.intersection(rules) or not self.supervisor.may_learn):
            said = {"stamp": stamp, "mode": self.supervisor.mode.value, "cuts": rules}
            self._contact.publish(convert.json_message(said))

    def say_mode(self) -> None:
        """Log the mode if it has changed: between two periods, and never inside one."""
        mode = self.supervisor.mode
        if mode is self._said:
            return
        self._said = mode
        text = f"mode {mode.value}: {self.supervisor.reason}"
        # Two lines, since rclpy lets no line of code log at two levels.
        if mode in LEVELS:
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().info(text)

    def look(self) -> list[str]:
        """Find out what is missing, and log it: a sentence each."""
        started, holding = self.intake.started, self.intake.holding
        still = self.clock.look()
        # Who has driven it and is gone is no news to the log, which has the mode.
        self.commands.look((holding or not started) and not still, logs=not started)
        return self.missing

    @property
    def missing(self) -> list[str]:
        """What was missing at the last look."""
        return [words for words in (self.clock.words, self.commands.words) if words]

    def status(self) -> dict[str, Any]:
        intake = self.intake
        return {
            "missing": self.missing,
            "clock": self.clock.to_dict(),
            "holding": intake.holding,
            "mode": self.supervisor.mode.value,
            "reason": self.supervisor.reason,
            "commands": {
                "accepted": intake.accepted,
                "refused": intake.refusals.to_dict(),
                "silent_periods": intake.silent_periods,
                "longest_silence": intake.longest_silence,
                "unanswered": self._unanswered,
            },
            "latency": self.latency.to_dict(),
        }

    def diagnostics(self, gate: dict[str, Any]) -> tuple[Component, Component]:
        """Of /diagnostics: what comes, and whose turn it is.

        Args:
            gate: Of the gate, to be told with it.
        """
        self._commander.look()
        missing = self.look()
        path = self._node.get_fully_qualified_name().lstrip("/")
        intake = self.intake
        wrong = [words for words in self.complaints.present() if words not in missing]
        refused = {f"refused_{name}": count for name, count in intake.refusals.to_dict().items()}
        mode = self.supervisor.mode
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
                f"{mode.value}: {self.supervisor.reason}",
                {"mode": mode.value, **gate},
            ),
        )

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
