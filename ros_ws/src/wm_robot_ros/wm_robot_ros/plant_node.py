"""The plant: a robot in MuJoCo, in real time, behind the topics that a real one would have.

It is a sampled system. At each deadline it moves the robot through the period that ends there under
the command that came in meanwhile, and says what the sensors then give. Delay between command and
motor is a property of the world, as in training; the time that a command takes to come is measured.

All that moves the robot goes through its gate. A supervisor says whose turn it is: that of whoever sends commands, or
that of the baseline, which holds and knows the way home.
"""

import json
import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from wm_robot.errors import WmRobotError
from wm_robot.io.complaints import Complaints
from wm_robot.io.durable import write_file
from wm_robot.io.intake import CommandIntake
from wm_robot.io.refusal import UNTIMELY, BadMessageError, Refusal
from wm_robot.lifetime.keyring import Keyring
from wm_robot.lifetime.signed_spec import load_signed_spec
from wm_robot.onboard.period_log import Period, PeriodLog, log_status
from wm_robot.onboard.realtime import Deadlines, Garbage
from wm_robot.onboard.timing import Histogram
from wm_robot.safety.baseline import Baseline
from wm_robot.safety.cuts import CONTACT, Rule
from wm_robot.safety.heartbeat import Heartbeat
from wm_robot.safety.modes import Mode
from wm_robot.safety.service import Service
from wm_robot.safety.supervisor import Report, Supervisor
from wm_robot.spec import RobotSpec
from wm_robot_ros import convert
from wm_robot_ros.one_speaker import FromWhom, OneSpeaker
from wm_robot_ros.parameters import declare, warn_of_unknown
from wm_robot_ros.qos import COMMAND, HEARTBEAT, LATCHED, OUTPUT, SENSOR
from wm_robot_ros.spin import Stop, end, executor_of, incompatible_qos, spin_once, start, use_real_time
from wm_robot_ros.world_text import read_world
from wm_robot_sim import load_spec, make_robot, spec_path
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.worlds import World

NAME = "plant"
SPIN_SHORTEST = 0.0005
"""Below this the rest of a wait is slept, in s: a wait for messages would end late."""
LOOK = 0.005
"""Longest time between two looks at the guard's page, in s."""
KEPT = 16
"""Observations whose answers are told from other commands."""
BROKEN = {Refusal.NOT_FINITE, Refusal.SIZE}
"""What only a broken controller sends; a command for another robot, or of another time, is merely not used."""
LEVELS = {Mode.SAFE_STOP: "error", Mode.HOLD: "warn", Mode.LIMP: "warn"}


@dataclass(frozen=True, kw_only=True)
class PlantConfig:
    """Parameters of the node."""

    robot: str
    seed: int
    world: str
    change_time: float
    change_world: str
    duration: float
    max_age: float
    timeout: float
    armed: bool
    guard: str
    require_signed: bool
    keys: str
    hold_if_late: bool
    status_rate: float
    report: str
    log: str
    priority: int
    cores: str

    @classmethod
    def declare(cls, node: Node) -> "PlantConfig":
        return cls(
            robot=declare(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            seed=declare(node, "seed", 0, "of start pose, target, noise and random worlds"),
            world=declare(node, "world", "nominal", "world at the start: nominal, random, or JSON"),
            change_time=declare(
                node, "change.time", -1.0, "s from the first command to a change of world; below 0: never"
            ),
            change_world=declare(node, "change.world", "nominal", "world after the change"),
            duration=declare(
                node, "duration", 0.0, "s from the first command to the end; 0: for ever", bounds=(0, 1e9)
            ),
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
            armed=declare(node, "armed", True, "follow the first command; false: only after ~/arm"),
            guard=declare(
                node,
                "guard",
                "",
                "page shared with wm-robot guard, without which it stands still; empty: none",
            ),
            require_signed=declare(node, "require_signed", False, "refuse a spec that no trusted key signed"),
            keys=declare(node, "keys", "", "folder of keys; empty: the user's"),
            hold_if_late=declare(
                node, "hold_if_late", True, "too many missed deadlines end in hold; false: they are counted"
            ),
            status_rate=declare(node, "status_rate", 10.0, "Hz of ~/status", bounds=(2, 50)),
            report=declare(node, "report", "", "file for the last ~/status, written at the end; empty: none"),
            log=declare(node, "log", "", "file that gets a line of JSON for each period; empty: none"),
            priority=declare(node, "realtime.priority", 0, "of SCHED_FIFO; 0: none", bounds=(0, 99)),
            cores=declare(node, "realtime.cores", "", "to run on alone, as 2,3; empty: any"),
        )


class PlantNode(Node):
    """Publishes what the robot senses and applies what it is told."""

    def __init__(self) -> None:
        """Raises:
        WmRobotError: If robot or world cannot be.
        """
        super().__init__(NAME)
        self.config = config = PlantConfig.declare(self)
        warn_of_unknown(self)
        self.spec = spec = self._load_spec()
        self.robot = make_robot(spec, read_world(config.world, spec, seed=config.seed), seed=config.seed)
        self._changed = read_world(config.change_world, spec, seed=config.seed + 1)
        self._target = MovingTarget(spec, seed=config.seed)
        self.intake = CommandIntake(
            self.robot.hold,
            servo=np.array([actuator.unit == "rad" for actuator in spec.actuators]),
            max_age=config.max_age,
            timeout=config.timeout,
        )
        self.supervisor = Supervisor(spec.safety, mode=Mode.READY if config.armed else Mode.LIMP)
        self._said: Mode | None = None
        self._baseline = Baseline(spec, self.robot.hold)
        self._heartbeat = Heartbeat(Path(config.guard)) if config.guard else None
        self._refused = ""
        """Why the last command showed that its sender is broken."""
        self._broken = ""
        """What the agent said when it stopped by itself."""
        self._surprise: float | None = None
        """Of the agent, not yet judged; in nats per channel."""
        self._agent_active = False
        self._answering = False
        """Whether who commands answers observations, and so owes an answer to each."""
        self._sent: deque[int] = deque(maxlen=KEPT)
        """Stamps of the last observations, in ns."""
        self._command_ms = math.nan
        self._unanswered = 0
        self.log = PeriodLog(config.log) if config.log else None
        self.realtime: dict[str, str] = {}
        self.garbage: Garbage | None = None
        self.latency, self.lateness = Histogram(), Histogram()
        self.periods = self.skipped = self.longest_skip = 0
        self._lived = 0
        """Periods since the first command."""
        self._change_due = config.change_time >= 0
        self._stamp = 0
        self._complaints = Complaints(self.get_logger().warning)
        self._commander = OneSpeaker(self, "joint_command", self._complaints, wary=True)

        self._sensed = self.create_publisher(JointState, "joint_states", OUTPUT)
        self._applied = self.create_publisher(JointState, "applied_command", OUTPUT)
        self._goal = self.create_publisher(PointStamped, "target", OUTPUT)
        self._gripper = self.create_publisher(PointStamped, "ground_truth/gripper", OUTPUT)
        self._contact = self.create_publisher(String, "~/contact", OUTPUT)
        self._events = self.create_publisher(String, "ground_truth/event", LATCHED)
        self._status = self.create_publisher(String, "~/status", HEARTBEAT)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT)
        self.create_subscription(
            JointState,
            "joint_command",
            FromWhom(self._on_command),
            COMMAND,
            event_callbacks=incompatible_qos(self, "joint_command", self._complaints),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.create_subscription(Float64, "agent/surprise", self._on_surprise, SENSOR)
        self.create_subscription(String, "agent/status", self._on_agent, SENSOR)
        self.create_service(Trigger, "~/arm", self._on_arm)
        self.create_service(Trigger, "~/disarm", self._on_disarm)
        self.create_timer(1.0 / config.status_rate, self._publish_status)
        self.create_timer(1.0, self._publish_diagnostics)
        # The first line of a log took 23 ms, which is more than a period; so it comes before there are any.
        self.say_mode()

    def _load_spec(self) -> RobotSpec:
        if not self.config.require_signed:
            return load_spec(self.config.robot)
        return load_signed_spec(spec_path(self.config.robot), Keyring(self.config.keys or None))

    @property
    def finished(self) -> bool:
        return 0 < self.config.duration <= self._lived * self.spec.dt

    def _on_command(self, message: JointState, source: bytes) -> None:
        now, stamp = self._now(), convert.stamp_of(message)
        # First, and cheaply: whoever floods it is not to keep it busy, nor to end anybody's turn.
        if self._commander.refuses(source):
            self.intake.refusals.add(Refusal.SOURCE)
            return
        refusal = self.intake.untimely(stamp, now)
        if refusal:
            if refusal is not Refusal.DUPLICATE:
                self._complain(refusal, UNTIMELY[refusal])
            return
        try:
            action = convert.action(message, self.spec)
        except BadMessageError as error:
            self.intake.refusals.add(error.reason)
            self._complain(error.reason, str(error))
            if error.reason in BROKEN:
                self._refused = f"a command was refused: {error}"
            return
        first = not self.intake.started
        self.intake.offer(action, stamp, now, moment=time.monotonic_ns())
        self._commander.follow(source)
        self._command_ms = (now - stamp) / 1e6
        self.latency.add(self._command_ms)
        self._answering = stamp in self._sent
        if first:
            self._publish_event("start", self.robot.world)

    def _on_surprise(self, message: Float64) -> None:
        self._surprise = float(message.data)

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
        if self._heartbeat:
            self._heartbeat.release()
        why_not = self._guard_says()
        if not why_not:
            self.supervisor.arm()
            self._commander.arm()
        response.success = not why_not
        response.message = why_not or f"armed in mode {self.supervisor.mode.value}"
        return response

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Somebody says that it may not."""
        self.supervisor.disarm()
        response.success, response.message = True, f"disarmed in mode {self.supervisor.mode.value}"
        return response

    def _guard_says(self) -> str:
        """Why the guard has stopped us; empty if it has not, or there is none."""
        return self._heartbeat.stopped() if self._heartbeat else ""

    def heed_guard(self) -> None:
        """Between two periods: stop now if the guard says so."""
        why = self._guard_says()
        if why and self.supervisor.mode is not Mode.SAFE_STOP:
            self._enter(self.supervisor.step(Report(guard=why)))

    def _supervise(self, skipped: int) -> Mode:
        """Whose turn the coming period is.

        Args:
            skipped: Periods that this node has missed by itself.
        """
        intake, before = self.intake, self.supervisor.mode
        # Behind a guard, commands count as long as a process drives that it watches.
        driven = intake.started and not intake.holding and (not self._heartbeat or self._heartbeat.driver > 0)
        learned = before is Mode.LEARNED
        unanswered = learned and self._answering and intake.silence > 0
        self._unanswered += unanswered
        report = Report(
            cuts=self.robot.gate.cuts,
            refused=self._refused,
            surprise=self._surprise,
            late=self.config.hold_if_late and (unanswered or (learned and skipped > 0)),
            commanded=driven,
            silent=not driven,
            homed=self._baseline.homed,
            guard=self._guard_says(),
            broken=self._broken,
        )
        self._refused, self._broken, self._surprise = "", "", None
        mode = self.supervisor.step(report)
        if mode is not before:
            self._enter(mode)
        return mode

    def _enter(self, mode: Mode) -> None:
        if mode is Mode.HOMING:
            self._baseline.go_home(self.robot.hold)
        else:
            self._baseline.stay(self.robot.hold)

    def say_mode(self) -> None:
        """Log the mode if it has changed: between two periods, and never inside one."""
        mode = self.supervisor.mode
        if mode is self._said:
            return
        self._said = mode
        text = f"mode {mode.value}: {self.supervisor.reason}"
        # Two lines, since rclpy lets no line of code log at two levels.
        if mode in LEVELS:
            self.get_logger().warning(text)
        else:
            self.get_logger().info(text)

    def period(self, *, late: float = 0.0, skipped: int = 0) -> None:
        """Move the robot through the period that ends now, and say what came of it.

        Args:
            late: Since its end, in s.
            skipped: Periods before it that nobody lived through.
        """
        if self._change_due and self._lived * self.spec.dt >= self.config.change_time and self.intake.started:
            self._change_due = False
            self.robot.change(self._changed)
            self._publish_event("change", self._changed)
        command, surprise = self.intake.take(time.monotonic_ns()), self._surprise
        mode = self._supervise(skipped)
        action = command if mode is Mode.LEARNED else self._baseline.act()
        # Until somebody commands it the robot stands where it was put: it would sag for as long as its agent
        # takes to load, and no two runs would begin alike.
        moves = self.intake.started or mode is Mode.HOMING
        applied = self.robot.write(action) if moves else self.robot.hold
        observation = self.robot.read().values
        self.periods += 1
        self._lived += self.intake.started
        self._stamp = stamp = self._next_stamp()
        self._sent.append(stamp)
        cuts = tuple(cut.rule for cut in self.robot.gate.cuts) if moves else ()
        # The observation comes last: when it arrives, what belongs to it is there already.
        if self.intake.started and (CONTACT.intersection(cuts) or not self.supervisor.may_learn):
            self._contact.publish(convert.json_message({"stamp": stamp, "mode": mode.value, "cuts": cuts}))
        goal = self._target.goal(self._lived)
        if goal.size:
            self._goal.publish(convert.point_message(goal, stamp))
        self._applied.publish(convert.action_message(applied, self.spec, stamp))
        self._sensed.publish(convert.observation_message(observation, self.spec, stamp))
        if self.spec.chain:
            self._gripper.publish(convert.point_message(self.robot.tip(), stamp))
        self._write_down(stamp, late, mode, cuts, surprise)

    def _write_down(
        self, stamp: int, late: float, mode: Mode, cuts: tuple[Rule, ...], surprise: float | None
    ) -> None:
        if self.log:
            self.log.add(
                Period(
                    stamp=stamp,
                    late_ms=1e3 * late,
                    latency_ms=self._command_ms,
                    surprise=math.nan if surprise is None else surprise,
                    mode=mode,
                    cuts=cuts,
                )
            )
        self._command_ms = math.nan

    def _next_stamp(self) -> int:
        """Now, in ns. Two readings never share a stamp; and where a clock was set back, the stamps follow it."""
        now = self._now()
        set_back = self._stamp - now > round(self.config.max_age * 1e9)
        return now if set_back else max(now, self._stamp + 1)

    def status(self) -> dict[str, Any]:
        intake = self.intake
        return {
            "robot": self.spec.name,
            "spec_digest": self.spec.digest(),
            "rate": self.spec.rate,
            "periods": self.periods,
            "lived": self._lived,
            "holding": intake.holding,
            "mode": self.supervisor.mode.value,
            "reason": self.supervisor.reason,
            "gate": self.robot.gate.status(),
            "commands": {
                "accepted": intake.accepted,
                "refused": intake.refusals.to_dict(),
                "silent_periods": intake.silent_periods,
                "longest_silence": intake.longest_silence,
                "unanswered": self._unanswered,
            },
            "skipped_periods": self.skipped,
            "longest_skip": self.longest_skip,
            "latency": self.latency.to_dict(),
            "lateness": self.lateness.to_dict(),
            "realtime": self.realtime,
            "garbage": self.garbage.status() if self.garbage else {},
            "log": log_status(self.log),
        }

    def write_report(self) -> None:
        if self.config.report:
            write_file(Path(self.config.report), json.dumps(self.status()).encode())

    def _publish_status(self) -> None:
        self._status.publish(convert.json_message(self.status()))

    def _publish_event(self, kind: str, world: World) -> None:
        values = {
            "event": kind,
            "stamp": self._now(),
            "time": round(self._lived * self.spec.dt, 6),
            "seed": self.config.seed,
            "robot": self.spec.name,
            "spec_digest": self.spec.digest(),
            "world": world.to_dict(),
        }
        self._events.publish(convert.json_message(values))

    def _publish_diagnostics(self) -> None:
        self._commander.look()
        intake, wrong = self.intake, self._complaints.present()
        refused = {f"refused_{name}": count for name, count in intake.refusals.to_dict().items()}
        silent = intake.holding or not intake.started
        commands = (
            f"{self._path}: commands",
            "warn" if silent or wrong else "ok",
            "; ".join(("no commands: holding position" if silent else "following commands", *wrong)),
            {"accepted": intake.accepted, "longest_silence": intake.longest_silence, **refused},
        )
        timing = (
            f"{self._path}: timing",
            "warn" if self.skipped else "ok",
            f"{self.skipped} periods skipped" if self.skipped else "in time",
            {"periods": self.periods, "late_p99_ms": self.lateness.percentile(99), "rate": self.spec.rate},
        )
        mode = self.supervisor.mode
        cut = {f"cut_{rule.value}": count for rule, count in self.robot.gate.counts.items()}
        safety = (
            f"{self._path}: safety",
            LEVELS.get(mode, "ok"),
            f"{mode.value}: {self.supervisor.reason}",
            {"mode": mode.value, "last_cut": self.robot.gate.last or "none", **cut},
        )
        message = convert.diagnostics_message(self._now(), self.spec.name, (commands, timing, safety))
        self._diagnostics.publish(message)

    def _complain(self, cause: Refusal, words: str) -> None:
        self._complaints.add(cause.value, lambda: f"command refused: {words}")

    @property
    def _path(self) -> str:
        return self.get_fully_qualified_name().lstrip("/")

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def run(node: PlantNode, executor: Executor, stop: Stop, service: Service) -> None:
    """Keep the node's rate on absolute deadlines; periods that passed while we were kept away are skipped."""
    deadlines = Deadlines(node.spec.dt)
    longest = LOOK if node.config.guard else node.spec.dt
    while not (stop.asked or node.finished):
        node.heed_guard()
        left = deadlines.left()
        if left > SPIN_SHORTEST:
            spin_once(executor, node, min(left - SPIN_SHORTEST, longest))
            continue
        deadlines.wait()
        late, skipped = deadlines.reached()
        node.lateness.add(late * 1e3)
        node.skipped += skipped
        node.longest_skip = max(node.longest_skip, skipped)
        node.period(late=late, skipped=skipped)
        service.progress()
        node.say_mode()
        if node.garbage:
            node.garbage.tidy(deadlines.left())


def main() -> None:
    """Run the node until Ctrl-C or its duration ends it."""
    stop, service = start(), Service()
    node = None
    try:
        node = PlantNode()
        executor = executor_of(node, quick=True)
        node.realtime = use_real_time(node, node.config.priority, node.config.cores)
        node.garbage = Garbage()
        service.ready()
        run(node, executor, stop, service)
        node.write_report()
    except WmRobotError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    finally:
        service.stopping()
        if node and node.log:
            node.log.close()
        end(node)


if __name__ == "__main__":
    main()
