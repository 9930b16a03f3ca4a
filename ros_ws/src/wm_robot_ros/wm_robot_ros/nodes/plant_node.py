"""Plant node: a robot in MuJoCo, in real time, with the topics of a real robot.

It is a sampled system. At each deadline it simulates the period that ends there under the last command, then
publishes the sensor values. The delay between command and motor is a property of the world, as in training. The age
of each command on arrival is measured.

It runs the control loop of the library. Every action passes the gate. The arbiter of the loop selects between the
received commands and the fallback controller, which holds and homes.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_robot.control.control_loop import ControlLoop
from wm_robot.control.period_log import PeriodLog, PeriodRecord, describe_log
from wm_robot.control.realtime import Deadlines, GarbageCollector, defer_garbage_collection
from wm_robot.io.durable import write_file
from wm_robot.robots import find_spec_path, load_spec
from wm_robot.safety.limit_violations import LimitViolation
from wm_robot.safety.modes import Mode
from wm_robot.safety.systemd import ServiceNotifier
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signed_spec import load_signed_spec
from wm_robot.spec import RobotSpec, Task
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot.types import Observation
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.idle_tasks import IdleTasks
from wm_robot_ros.middleware.node_runtime import (
    ShutdownFlag,
    init_ros,
    make_executor,
    report_errors,
    shut_down_node,
    spin_once,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import declare_parameter, warn_about_unknown
from wm_robot_ros.middleware.qos import HEARTBEAT_QOS, LATCHED_QOS, OUTPUT_QOS
from wm_robot_ros.middleware.sensor_messages import check_sensor_topics
from wm_robot_ros.nodes.command_subscription import CommandParameters, CommandSubscription
from wm_robot_ros.nodes.sensor_outputs import SensorOutputs
from wm_robot_sim import make_robot
from wm_robot_sim.standins.catalog import NOMINAL, parse_plant
from wm_robot_sim.task_goals import TaskGoals
from wm_robot_sim.world_parameter import parse_world
from wm_robot_sim.worlds import World

NODE_NAME = "plant"
MIN_SPIN_TIME = 0.0005
"""Shortest wait for messages, in s; a shorter rest is slept, because a wait for messages would end late."""
GUARDED_WAIT = 0.005
"""Longest time between two checks of the guard's page, in s."""


@dataclass(frozen=True, kw_only=True)
class PlantParameters:
    """Parameters of a plant node."""

    robot: str
    task: str
    plant: str
    seed: int
    world: str
    change_time: float
    change_world: str
    duration: float
    min_subscribers: int
    commands: CommandParameters
    require_signed: bool
    keys: str
    status_rate: float
    report: str
    log: str
    priority: int
    cores: str

    @classmethod
    def declare_parameters(cls, node: Node) -> "PlantParameters":
        return cls(
            robot=declare_parameter(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            task=declare_parameter(
                node, "task", "", "task whose goals are published; empty: the first one of the robot's spec"
            ),
            plant=declare_parameter(
                node,
                "plant",
                NOMINAL,
                "nominal, or a stand-in that no training saw: standin/NAME[:SEED]",
            ),
            seed=declare_parameter(node, "seed", 0, "seed of start pose, target, noise and random worlds"),
            world=declare_parameter(node, "world", "nominal", "world at the start: nominal, random, or JSON"),
            change_time=declare_parameter(
                node,
                "change.time",
                -1.0,
                "time from the first command to a change of the world, in s; negative: never",
            ),
            change_world=declare_parameter(node, "change.world", "nominal", "world after the change"),
            duration=declare_parameter(
                node,
                "duration",
                0.0,
                "time from the first command to the end, in s; 0: unlimited",
                bounds=(0, 1e9),
            ),
            min_subscribers=declare_parameter(
                node,
                "min_subscribers",
                0,
                "minimum number of subscribers of joint_states and of applied_command before the first is sent",
                bounds=(0, 64),
            ),
            commands=CommandParameters.declare_parameters(node, armed=True),
            require_signed=declare_parameter(
                node, "require_signed", False, "reject a spec without a signature of a trusted key"
            ),
            keys=declare_parameter(node, "keys", "", "folder of the keys; empty: the user's folder"),
            status_rate=declare_parameter(
                node, "status_rate", 10.0, "rate of ~/status, in Hz", bounds=(2, 50)
            ),
            report=declare_parameter(
                node, "report", "", "file for the last ~/status, written at the end; empty: none"
            ),
            log=declare_parameter(node, "log", "", "file for one line of JSON per period; empty: none"),
            priority=declare_parameter(
                node, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
            ),
            cores=declare_parameter(
                node, "realtime.cores", "", "cores to run on with real time, such as 2,3; empty: any"
            ),
        )


class PlantNode(Node):
    """Node of a simulated robot: publishes observations and applies commands."""

    def __init__(self, progress: Callable[[], None] = lambda: None) -> None:
        """Args:
            progress: Called at the end of every period.

        Raises:
            WmRobotError: If robot or world is invalid.
        """
        super().__init__(NODE_NAME)
        self.config = config = PlantParameters.declare_parameters(self)
        warn_about_unknown(self)
        self.spec = spec = self._load_spec()
        check_sensor_topics(spec)
        self.robot = make_robot(
            spec,
            parse_world(config.world, spec, seed=config.seed),
            seed=config.seed,
            standin=parse_plant(config.plant, spec),
        )
        self._changed_world = parse_world(config.change_world, spec, seed=config.seed + 1)
        task = spec.tasks.get(config.task or next(iter(spec.tasks), ""), Task(reward="none"))
        self._goals = TaskGoals(spec, task, seed=config.seed)
        self._goal_encoder = GoalDecoder(spec, task) if task.goal else None
        self.commands = CommandSubscription(
            self,
            spec,
            config.commands,
            self.robot.last_action,
            mode=Mode.READY if config.commands.start_armed else Mode.LIMP,
            on_first_command=lambda: self._publish_event("start", self.robot.world),
        )
        self.loop = ControlLoop(
            self.robot,
            self.commands.arbiter,
            report=self._publish_period,
            write=self._simulate_period,
            progress=progress,
            between_periods=self.run_between_periods,
        )
        self.log = PeriodLog(config.log) if config.log else None
        self.realtime: dict[str, str] = {}
        self.garbage_collector: GarbageCollector | None = None
        self._num_periods = 0
        """Number of periods since the first command."""
        self._change_due = config.change_time >= 0
        self._has_subscribers = False
        """Whether there have been enough subscribers."""

        self._sensor_outputs = SensorOutputs(self, spec)
        self._observation_publisher = self.create_publisher(JointState, "joint_states", OUTPUT_QOS)
        self._applied_publisher = self.create_publisher(JointState, "applied_command", OUTPUT_QOS)
        goal_type = self._goal_encoder.goal_type if self._goal_encoder else "PointStamped"
        self._goal = self.create_publisher(convert.GOAL_MESSAGES[goal_type], "target", OUTPUT_QOS)
        self._gripper = self.create_publisher(PointStamped, "ground_truth/gripper", OUTPUT_QOS)
        self._events = self.create_publisher(String, "ground_truth/event", LATCHED_QOS)
        self._status = self.create_publisher(String, "~/status", HEARTBEAT_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT_QOS)
        self.idle_tasks = IdleTasks(self)
        self.idle_tasks.add_periodic(1.0 / config.status_rate, self._publish_status)
        self.idle_tasks.add_periodic(1.0, self._publish_diagnostics)
        # The first log line took 23 ms, which is more than a period, so it comes before the first period.
        self.commands.log_mode()

    def _load_spec(self) -> RobotSpec:
        if not self.config.require_signed:
            return load_spec(self.config.robot)
        return load_signed_spec(find_spec_path(self.config.robot), Keyring(self.config.keys or None))

    @property
    def is_finished(self) -> bool:
        return 0 < self.config.duration <= self._num_periods * self.spec.dt

    def _simulate_period(self, mode: Mode, action: Any) -> np.ndarray:
        """Simulate the period that ends now, and return the applied action, `A`."""
        started = self.commands.remote.has_started
        # Before the first command the robot is not simulated: it would sag while its agent loads, and no two runs
        # would start from the same state.
        if not (started or mode is Mode.HOMING):
            return self.robot.last_action
        if self._change_due and started and self._num_periods * self.spec.dt >= self.config.change_time:
            self._change_due = False
            self.robot.set_world(self._changed_world)
            self._publish_event("change", self._changed_world)
        return self.robot.write(action)

    def _publish_period(
        self,
        obs: Observation | None,
        applied: np.ndarray | None,
        violations: tuple[LimitViolation, ...],
        latency: float,
    ) -> None:
        """Publish the sensor values after a period, and the applied action. See `ReportPeriod`."""
        commands = self.commands
        self._num_periods += commands.remote.has_started
        goal = self._goals.compute_goal(self._num_periods)
        observation, readings = self.robot.read().values, self.robot.take_readings()
        if applied is None or not commands.clock.is_running(self._read_clock()):
            # The agent would act on invalid stamps, and learn from them.
            return
        if not self._check_subscribers():
            return
        # The joints come last, so that sensors, target and applied command arrive before them.
        self._sensor_outputs.publish_readings(self._read_clock(), readings)
        stamp = commands.make_stamp()
        commands.publish_intervention(stamp, violations)
        if self._goal_encoder:
            self._goal.publish(convert.make_goal_message(goal, self._goal_encoder, stamp))
        self._applied_publisher.publish(convert.make_action_message(applied, self.spec, stamp))
        self._observation_publisher.publish(convert.make_observation_message(observation, self.spec, stamp))
        if self.spec.chain:
            self._gripper.publish(convert.make_point_message(self.robot.compute_gripper_position(), stamp))
        self._log_period(stamp, violations)

    def _check_subscribers(self) -> bool:
        """Whether there are, or have been, enough subscribers; a recorder that comes later misses the start."""
        publishers = (self._observation_publisher, self._applied_publisher)
        self._has_subscribers = self._has_subscribers or all(
            publisher.get_subscription_count() >= self.config.min_subscribers for publisher in publishers
        )
        return self._has_subscribers

    def _log_period(self, stamp: int, violations: tuple[LimitViolation, ...]) -> None:
        remote, arbiter = self.commands.remote, self.commands.arbiter
        if self.log:
            self.log.add_period(
                PeriodRecord(
                    stamp=stamp,
                    late_ms=self.loop.lateness.last_ms,
                    latency_ms=remote.age_ms,
                    surprise=math.nan if arbiter.surprise is None else arbiter.surprise,
                    mode=arbiter.mode,
                    violations=tuple(violation.rule for violation in violations),
                )
            )
        remote.age_ms = math.nan

    def run_between_periods(self, time_left: float) -> None:
        """Log the mode, or collect garbage, between two periods.

        Args:
            time_left: Time until the next period, in s.
        """
        logged = self.commands.log_mode()
        if self.garbage_collector and not logged:
            self.garbage_collector.collect_if_due(time_left)

    def describe_status(self) -> dict[str, Any]:
        return {
            "robot": self.spec.name,
            "plant": self._plant_name,
            "spec_digest": self.spec.compute_digest(),
            "rate": self.spec.rate,
            "periods": self.loop.num_periods,
            "num_steps": self._num_periods,
            "gate": self.robot.gate.status(),
            "skipped_periods": self.loop.num_skipped,
            "longest_skip": self.loop.max_skipped_in_row,
            "lateness": self.loop.lateness.to_dict(),
            "realtime": self.realtime,
            "garbage_collection": self.garbage_collector.describe_status() if self.garbage_collector else {},
            "log": describe_log(self.log),
            **self.commands.describe_status(),
        }

    def write_report(self) -> None:
        if self.config.report:
            write_file(Path(self.config.report), json.dumps(self.describe_status()).encode())

    def _publish_status(self) -> None:
        self._status.publish(convert.make_json_message(self.describe_status()))

    def _publish_event(self, kind: str, world: World) -> None:
        values = {
            "event": kind,
            "stamp": self._read_clock(),
            "time": round(self._num_periods * self.spec.dt, 6),
            "seed": self.config.seed,
            "robot": self.spec.name,
            "plant": self._plant_name,
            "spec_digest": self.spec.compute_digest(),
            "world": world.to_dict(),
        }
        self._events.publish(convert.make_json_message(values))

    def _publish_diagnostics(self) -> None:
        gate = self.robot.gate
        counts = {f"violations_{rule.value}": count for rule, count in gate.counts.items()}
        commands, safety = self.commands.describe_diagnostics(
            {"last_violation": gate.last_violation or "none", **counts}
        )
        periods, skipped, late = (
            self.loop.num_periods,
            self.loop.num_skipped,
            self.loop.lateness.compute_percentile(99),
        )
        timing = (
            f"{self._node_path}: timing",
            "warn" if skipped else "ok",
            f"{skipped} periods skipped" if skipped else "in time",
            {"periods": periods, "late_p99_ms": late, "rate": self.spec.rate},
        )
        message = convert.make_diagnostics_message(
            self._read_clock(), self.spec.name, (commands, timing, safety)
        )
        self._diagnostics.publish(message)

    @property
    def _plant_name(self) -> str:
        return str(self.robot.standin or NOMINAL)

    @property
    def _node_path(self) -> str:
        return self.get_fully_qualified_name().lstrip("/")

    def _read_clock(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def run_plant_node(node: PlantNode, executor: Executor, shutdown_flag: ShutdownFlag) -> None:
    """Run the control loop at the rate of the spec on absolute deadlines; missed periods are skipped."""
    deadlines = Deadlines(node.spec.dt)
    longest = GUARDED_WAIT if node.config.commands.heartbeat_file else node.spec.dt

    def wait_for_messages() -> None:
        node.idle_tasks.run_due(deadlines.time_left)
        left = deadlines.time_left()
        if left > MIN_SPIN_TIME:
            spin_once(executor, node, min(left - MIN_SPIN_TIME, longest))
        else:
            deadlines.wait_for_next()

    node.loop.run(deadlines, lambda: shutdown_flag.is_set or node.is_finished, wait_for_messages)


def main() -> None:
    """Run the node until Ctrl-C, or until its duration has passed."""
    stop, service = init_ros(), ServiceNotifier()
    node = None
    try:
        with report_errors():
            node = PlantNode(service.ping_watchdog)
            executor = make_executor(node, use_events=True)
            node.realtime = use_real_time(node, node.config.priority, node.config.cores)
            node.garbage_collector = defer_garbage_collection()
            service.notify_ready()
            run_plant_node(node, executor, stop)
            node.write_report()
    finally:
        service.notify_stopping()
        if node and node.log:
            node.log.close()
        shut_down_node(node)


if __name__ == "__main__":
    main()
