"""Control node: a plant behind ros2_control, with the safety gate in front of the robot's controllers.

It has the same topics as the simulated plant. It publishes the states of the joint_state_broadcaster at the rate and
in the order of the spec. Commands of an agent pass the gate, then go to a controller as a trajectory of one point or
as an array; an agent is followed only with a valid validation record. It sends nothing before it is armed. It cannot
be armed while the robot description permits less than the spec.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from wm_robot.control.control_loop import ControlLoop
from wm_robot.control.realtime import Deadlines
from wm_robot.errors import ConfigError, SpecError
from wm_robot.robots import load_spec
from wm_robot.robots.urdf import find_differences
from wm_robot.safety.gated_robot import GatedRobot
from wm_robot.safety.limit_violations import LimitViolation
from wm_robot.safety.modes import Mode
from wm_robot.safety.systemd import ServiceNotifier
from wm_robot.spec import RobotSpec
from wm_robot.streams.rejection import BadMessageError, RejectionCounters, RejectionReason
from wm_robot.types import Observation
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.idle_tasks import IdleTasks
from wm_robot_ros.middleware.input_monitor import DISCOVERY_TIME, MAX_SILENCE, MONITORED_EVENTS, InputMonitor
from wm_robot_ros.middleware.node_runtime import (
    ShutdownFlag,
    make_executor,
    run_node,
    spin_once,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import declare_parameter, warn_about_unknown
from wm_robot_ros.middleware.qos import HEARTBEAT_QOS, LATCHED_QOS, OUTPUT_QOS
from wm_robot_ros.middleware.sensor_messages import check_sensor_topics
from wm_robot_ros.middleware.subscriptions import LatestSubscription, PublisherLock
from wm_robot_ros.nodes.command_subscription import CommandParameters, CommandSubscription
from wm_robot_ros.nodes.controller_driver import ControllerDriver
from wm_robot_ros.nodes.learned_mode_check import LearnedModeCheck, RecordParameters
from wm_robot_ros.nodes.sensor_inputs import SensorInputs

NODE_NAME = "plant"
GUARDED_WAIT = 0.005
"""Longest time between two checks of the guard's page, in s."""
COMMAND_KINDS: dict[str, tuple[type, Callable[[np.ndarray, RobotSpec], Any]]] = {
    "joint_trajectory": (JointTrajectory, convert.make_trajectory_message),
    "float64_multi_array": (Float64MultiArray, convert.make_array_message),
}
"""Message type and encoder of a controller: for joint_trajectory_controller, and for forward controllers."""


@dataclass(frozen=True, kw_only=True)
class ControlParameters:
    """Parameters of a control node."""

    robot: str
    command_kind: str
    command_topic: str
    states_topic: str
    description_topic: str
    commands: CommandParameters
    record: RecordParameters
    status_rate: float
    priority: int

    @classmethod
    def declare_parameters(cls, node: Node) -> "ControlParameters":
        return cls(
            robot=declare_parameter(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            command_kind=declare_parameter(
                node, "command.kind", "joint_trajectory", f"type of the commands: {', '.join(COMMAND_KINDS)}"
            ),
            command_topic=declare_parameter(
                node,
                "command.topic",
                "/joint_trajectory_controller/joint_trajectory",
                "command topic of the controller",
            ),
            states_topic=declare_parameter(
                node, "states.topic", "/joint_states", "topic of the joint_state_broadcaster"
            ),
            description_topic=declare_parameter(
                node, "description.topic", "/robot_description", "URDF to check the spec against; empty: none"
            ),
            commands=CommandParameters.declare_parameters(node, armed=False),
            record=RecordParameters.declare_parameters(node),
            status_rate=declare_parameter(
                node, "status_rate", 10.0, "rate of ~/status, in Hz", bounds=(2, 50)
            ),
            priority=declare_parameter(
                node, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
            ),
        )


class ControlNode(Node):
    """Node between an agent and the controllers of ros2_control."""

    def __init__(self, progress: Callable[[], None] = lambda: None) -> None:
        """Args:
            progress: Called at the end of every period.

        Raises:
            WmRobotError: If a parameter is invalid.
        """
        super().__init__(NODE_NAME)
        self.config = config = ControlParameters.declare_parameters(self)
        warn_about_unknown(self)
        self.spec = spec = load_spec(config.robot)
        check_sensor_topics(spec)
        if config.command_kind not in COMMAND_KINDS:
            raise ConfigError(
                f"command.kind is '{config.command_kind}'; it must be one of {sorted(COMMAND_KINDS)}"
            )
        if self.resolve_topic_name(config.states_topic) == self.resolve_topic_name("joint_states"):
            raise ConfigError(
                f"states.topic is {config.states_topic}, which this node publishes. Run it in a namespace"
            )
        kind, self._as_message = COMMAND_KINDS[config.command_kind]
        self._as_message(np.zeros(spec.action_dim), spec)
        self.rejections = RejectionCounters()
        """Rejected messages of the joint_state_broadcaster."""
        self.robot: GatedRobot | None = None
        self._driver: ControllerDriver | None = None
        self.commands = CommandSubscription(
            self,
            spec,
            config.commands,
            spec.home_action,
            mode=Mode.LIMP,
            arming_obstacle=self.describe_arming_obstacle,
            on_armed=self._on_armed,
            make_check=lambda log: LearnedModeCheck(
                self,
                spec,
                config.robot,
                config.record,
                max_age=config.commands.max_age,
                throttled_log=log,
            ),
        )
        self.loop: ControlLoop | None = None
        """Control loop; None until the first joint states arrive."""
        self._progress, self._arm_when_ready = progress, config.commands.start_armed
        self._description_faults: list[str] | None = None if config.description_topic else []
        """Limits of the description below those of the spec; None until the description arrives."""
        self.num_sent = 0

        self._command_publisher = self.create_publisher(kind, config.command_topic, OUTPUT_QOS)
        self._observation_publisher = self.create_publisher(JointState, "joint_states", OUTPUT_QOS)
        self._applied_publisher = self.create_publisher(JointState, "applied_command", OUTPUT_QOS)
        self._status = self.create_publisher(String, "~/status", HEARTBEAT_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT_QOS)
        self._states_lock = PublisherLock(
            self, config.states_topic, self.commands.throttled_log, block_rejected=False
        )
        self._sensors = SensorInputs(
            self, spec, self.commands.throttled_log, ExitStack(), is_used=self.commands.clock.is_running
        )
        """Sensors beyond the joints; the gate decides by the required ones."""
        self._sensors_missing = list[str]()
        states = LatestSubscription(
            self,
            JointState,
            config.states_topic,
            self._on_states,
            rejects=self._rejects_publisher,
            event_callbacks=MONITORED_EVENTS,
        )
        self._states_monitor = InputMonitor(
            self,
            states.subscription,
            self.commands.throttled_log,
            missing="no joint states",
            rejected="states rejected",
            needs=f"with {' and '.join(spec.interfaces)} of {list(spec.joint_names)}",
            remedy="Is the joint_state_broadcaster active? Or set states.topic.",
            log_delay=DISCOVERY_TIME,
        )
        self._description_monitor: InputMonitor | None = None
        if config.description_topic:
            self._description_monitor = InputMonitor(
                self,
                self.create_subscription(
                    String,
                    config.description_topic,
                    self._on_description,
                    LATCHED_QOS,
                    event_callbacks=MONITORED_EVENTS,
                ),
                self.commands.throttled_log,
                missing="no robot description",
                rejected="description rejected",
                remedy="Start robot_state_publisher, or set description.topic to ''.",
                log_delay=DISCOVERY_TIME,
            )
        self.idle_tasks = IdleTasks(self)
        self.idle_tasks.add_periodic(1.0 / config.status_rate, self._publish_status)
        self.idle_tasks.add_periodic(1.0, self._publish_diagnostics)

    def _rejects_publisher(self, source: bytes) -> bool:
        """Whether a message of a publisher is rejected before it is decoded."""
        refused = self._states_lock.rejects_publisher(source)
        if refused:
            self.rejections.count_rejection(RejectionReason.SOURCE)
        return refused

    def _on_states(self, message: JointState, source: bytes) -> None:
        try:
            joints = convert.decode_joint_message(message, self.spec)
        except BadMessageError as error:
            self.rejections.count_rejection(error.reason)
            self._states_monitor.record_rejection(error.reason, str(error))
            return
        self._states_lock.lock_to(source)
        # Stamped by the clock of this computer, because the robot's computer may have another clock.
        now = self._read_clock()
        obs = Observation(stamp=time.monotonic(), values=self._sensors.assemble(now, now, joints).values)
        self._states_monitor.record_use(obs.stamp)
        if self._driver is not None:
            self._driver.newest_obs = obs
            return
        self._driver = ControllerDriver(self.spec, obs, self._send_action)
        self.robot = GatedRobot(self._driver, clock=time.monotonic)
        self.commands.restart_from(self._driver.last_action)
        self.loop = ControlLoop(
            self.robot,
            self.commands.arbiter,
            report=self._publish_period,
            write=self._write_if_armed,
            progress=self._progress,
            between_periods=lambda left: self.commands.log_mode(),
        )

    def _on_description(self, message: String) -> None:
        try:
            self._description_faults = find_differences(self.spec, message.data)
        except SpecError as error:
            self._description_faults = [str(error)]
        for what in self._description_faults:
            self.get_logger().error(f"the description permits less than the spec: {what}")
        if self._description_faults:
            self.commands.arbiter.request_disarming()

    def describe_arming_obstacle(self) -> str:
        """Return the reason against arming; empty if there is none."""
        if self.commands.clock.fault:
            return self.commands.clock.fault
        if self.robot is None:
            return self._states_monitor.description or self._states_monitor.check_input(True)
        if self._description_faults is None and self._description_monitor is not None:
            return self._description_monitor.description or self._description_monitor.check_input(True)
        assert self.commands.check is not None
        unvalidated = self.commands.check.describe_obstacle()
        return "; ".join(
            [
                *(self._description_faults or []),
                *self._sensors_missing,
                *([unvalidated] if unvalidated else []),
            ]
        )

    def _check_inputs(self) -> None:
        """Check states and description of the robot, and log missing ones."""
        self._states_monitor.check_input(self.robot is None or self._states_monitor.silence > MAX_SILENCE)
        if self._description_monitor is not None:
            self._description_monitor.check_input(self._description_faults is None)
        self._sensors_missing = self._sensors.check_sensors()

    @property
    def _inputs_missing(self) -> list[str]:
        """Missing inputs at the last check, from the robot and from the agent."""
        inputs = [self._states_monitor, *([self._description_monitor] if self._description_monitor else [])]
        return [
            *(each.description for each in inputs if each.description),
            *self._sensors_missing,
            *self.commands.inputs_missing,
        ]

    def _on_armed(self) -> None:
        self._states_lock.accept_new_publisher(silent=self._has_old_observation())

    def _has_old_observation(self) -> bool:
        """Whether the newest observation is too old."""
        if self._driver is None:
            return True
        return (
            time.monotonic() - self._driver.newest_obs.stamp > self.spec.safety.max_age_periods * self.spec.dt
        )

    def _write_if_armed(self, mode: Mode, action: Any) -> np.ndarray:
        """Send an action through the gate if the plant is armed, and return the applied action, `A`."""
        assert self.robot is not None and self._driver is not None
        if mode is Mode.LIMP:
            # Not armed: other software may command the robot.
            self._driver.follow_measured()
            return self._driver.last_action
        return self.robot.write(action)

    def _publish_period(
        self,
        obs: Observation | None,
        applied: np.ndarray | None,
        violations: tuple[LimitViolation, ...],
        latency: float,
    ) -> None:
        """Publish the last observation and the applied action. See `ReportPeriod`."""
        if self._arm_when_ready and not self.describe_arming_obstacle():
            self._arm_when_ready = False
            self.commands.arbiter.supervisor.request_arming()
        if obs is None or applied is None or self._has_old_observation():
            # An old observation must not get a new stamp; an agent without observations does not act.
            return
        if not self.commands.clock.is_running(self._read_clock()):
            # The agent would act on invalid stamps, and learn from them.
            return
        stamp = self.commands.make_stamp()
        self.commands.publish_intervention(stamp, violations)
        self._applied_publisher.publish(convert.make_action_message(applied, self.spec, stamp))
        self._observation_publisher.publish(convert.make_observation_message(obs.values, self.spec, stamp))

    def _send_action(self, action: np.ndarray) -> None:
        self.num_sent += 1
        self._command_publisher.publish(self._as_message(action, self.spec))

    def _publish_status(self) -> None:
        values = {
            "robot": self.spec.name,
            "spec_digest": self.spec.compute_digest(),
            "arming_obstacle": self.describe_arming_obstacle(),
            "periods": self.loop.num_periods if self.loop else 0,
            "skipped_periods": self.loop.num_skipped if self.loop else 0,
            "num_sent": self.num_sent,
            "states_rejected": self.rejections.to_dict(),
            "active_faults": self.commands.throttled_log.list_active_causes(),
            "gate": self.robot.gate.status() if self.robot else {},
            **self.commands.describe_status(),
            "missing": self._inputs_missing,
        }
        self._status.publish(convert.make_json_message(values))

    def _publish_diagnostics(self) -> None:
        self._states_lock.check_publisher()
        self._check_inputs()
        gate = self.robot.gate if self.robot else None
        counts = {f"violations_{rule.value}": count for rule, count in gate.counts.items()} if gate else {}
        components = self.commands.describe_diagnostics(
            {"arming_obstacle": self.describe_arming_obstacle(), **counts}
        )
        self._diagnostics.publish(
            convert.make_diagnostics_message(self._read_clock(), self.spec.name, components)
        )

    def _read_clock(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def run_control_node(
    node: ControlNode, executor: Executor, shutdown_flag: ShutdownFlag, progress: Callable[[], None]
) -> None:
    """Run the control loop at the rate of the spec on absolute deadlines; missed periods are skipped.

    Args:
        progress: Called once per period, also before the first joint states.
    """
    deadlines = Deadlines(node.spec.dt)
    longest = GUARDED_WAIT if node.config.commands.heartbeat_file else node.spec.dt

    def wait_for_messages() -> None:
        node.idle_tasks.run_due(deadlines.time_left)
        left = deadlines.time_left()
        if left > 0:
            spin_once(executor, node, min(left, longest))

    node.commands.log_mode()
    while node.loop is None and not shutdown_flag.is_set:
        wait_for_messages()
        if deadlines.time_left() <= 0:
            deadlines.advance_to_next()
            progress()
    if node.loop is not None:
        node.loop.run(deadlines, lambda: shutdown_flag.is_set, wait_for_messages)


def main() -> None:
    """Run the node until Ctrl-C."""
    service = ServiceNotifier()
    with run_node(lambda: ControlNode(service.ping_watchdog)) as (node, stop):
        use_real_time(node, node.config.priority)
        service.notify_ready()
        run_control_node(node, make_executor(node), stop, service.ping_watchdog)
        service.notify_stopping()


if __name__ == "__main__":
    main()
