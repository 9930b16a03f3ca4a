"""Control node: a plant behind ros2_control, with the safety gate in front of the robot's controllers.

It has the same topics as the simulated plant. It publishes the states of the joint_state_broadcaster at the rate and
in the order of the spec. Commands of an agent pass the gate, then go to a controller as a trajectory of one point or
as an array. It sends nothing before it is armed. It cannot be armed while the robot description permits less than the
spec.
"""

import time
from collections.abc import Callable
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
from wm_robot.robots.urdf import differences
from wm_robot.safety.gated_robot import GatedRobot
from wm_robot.safety.limit_violations import Cut
from wm_robot.safety.modes import Mode
from wm_robot.safety.systemd import Service
from wm_robot.spec import RobotSpec
from wm_robot.streams.rejection import BadMessageError, Refusal, Refusals
from wm_robot.types import Observation
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.idle_tasks import Chores
from wm_robot_ros.middleware.input_monitor import SILENCE, START_UP, WATCHED, InputWatch
from wm_robot_ros.middleware.node_runtime import Stop, executor_of, running, spin_once, use_real_time
from wm_robot_ros.middleware.parameters import declare, warn_of_unknown
from wm_robot_ros.middleware.qos import HEARTBEAT, LATCHED, OUTPUT
from wm_robot_ros.middleware.subscriptions import Newest, OneSpeaker
from wm_robot_ros.nodes.command_subscription import CommandConfig, CommandSubscription

NAME = "plant"
LOOK = 0.005
"""Longest time between two checks of the guard's page, in s."""
KINDS: dict[str, tuple[type, Callable[[np.ndarray, RobotSpec], Any]]] = {
    "joint_trajectory": (JointTrajectory, convert.trajectory_message),
    "float64_multi_array": (Float64MultiArray, convert.array_message),
}
"""Message type and encoder of a controller: for joint_trajectory_controller, and for forward controllers."""


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """Parameters of a control node."""

    robot: str
    kind: str
    command_topic: str
    states_topic: str
    description_topic: str
    commands: CommandConfig
    status_rate: float
    priority: int

    @classmethod
    def declare(cls, node: Node) -> "ControlConfig":
        return cls(
            robot=declare(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            kind=declare(
                node, "command.kind", "joint_trajectory", f"type of the commands: {', '.join(KINDS)}"
            ),
            command_topic=declare(
                node,
                "command.topic",
                "/joint_trajectory_controller/joint_trajectory",
                "command topic of the controller",
            ),
            states_topic=declare(
                node, "states.topic", "/joint_states", "topic of the joint_state_broadcaster"
            ),
            description_topic=declare(
                node, "description.topic", "/robot_description", "URDF to check the spec against; empty: none"
            ),
            commands=CommandConfig.declare(node, armed=False),
            status_rate=declare(node, "status_rate", 10.0, "rate of ~/status, in Hz", bounds=(2, 50)),
            priority=declare(
                node, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
            ),
        )


class Controllers:
    """Plant driver for the gate: the newest observation, and the command topic of the controllers."""

    def __init__(self, spec: RobotSpec, first: Observation, send: Callable[[np.ndarray], None]):
        self.spec, self.newest, self._send = spec, first, send
        self.follow()

    def follow(self) -> None:
        """Set the action in force to the measured positions, while other software moves the robot."""
        places = dict(zip(self.spec.observation_names, self.newest.values, strict=True))
        told = [places[f"{a.joint}/position"] if a.unit == "rad" else 0.0 for a in self.spec.actuators]
        self.hold = np.clip(np.array(told, np.float32), self.spec.action_low, self.spec.action_high)

    def read(self) -> Observation:
        return self.newest

    def drive(self, action: np.ndarray) -> np.ndarray:
        self._send(action)
        self.hold = np.asarray(action, np.float32)
        return self.hold


class ControlNode(Node):
    """Node between an agent and the controllers of ros2_control."""

    def __init__(self, progress: Callable[[], None] = lambda: None) -> None:
        """Args:
            progress: Called at the end of every period.

        Raises:
            WmRobotError: If a parameter is invalid.
        """
        super().__init__(NAME)
        self.config = config = ControlConfig.declare(self)
        warn_of_unknown(self)
        self.spec = spec = load_spec(config.robot)
        if config.kind not in KINDS:
            raise ConfigError(f"command.kind is '{config.kind}'; it must be one of {sorted(KINDS)}")
        if self.resolve_topic_name(config.states_topic) == self.resolve_topic_name("joint_states"):
            raise ConfigError(
                f"states.topic is {config.states_topic}, which this node publishes. Run it in a namespace"
            )
        kind, self._as_message = KINDS[config.kind]
        self._as_message(np.zeros(spec.action_dim), spec)
        self.refusals = Refusals()
        """Rejected messages of the joint_state_broadcaster."""
        self.robot: GatedRobot | None = None
        self._driver: Controllers | None = None
        neutral = np.clip(np.zeros(spec.action_dim, np.float32), spec.action_low, spec.action_high)
        self.commands = CommandSubscription(
            self,
            spec,
            config.commands,
            neutral,
            mode=Mode.LIMP,
            why_not=self.why_not,
            on_armed=self._on_armed,
        )
        self.loop: ControlLoop | None = None
        """Control loop; None until the first joint states arrive."""
        self._progress, self._wants_armed = progress, config.commands.armed
        self._disagrees: list[str] | None = None if config.description_topic else []
        """Limits of the description below those of the spec; None until the description arrives."""
        self.sent = 0

        self._out = self.create_publisher(kind, config.command_topic, OUTPUT)
        self._sensed = self.create_publisher(JointState, "joint_states", OUTPUT)
        self._applied = self.create_publisher(JointState, "applied_command", OUTPUT)
        self._status = self.create_publisher(String, "~/status", HEARTBEAT)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT)
        self._broadcaster = OneSpeaker(self, config.states_topic, self.commands.complaints, wary=False)
        states = Newest(
            self,
            JointState,
            config.states_topic,
            self._on_states,
            refuses=self._ignores,
            event_callbacks=WATCHED,
        )
        self._states = InputWatch(
            self,
            states.subscription,
            self.commands.complaints,
            missing="no joint states",
            refused="states rejected",
            needs=f"with {' and '.join(spec.interfaces)} of {list(spec.joint_names)}",
            remedy="Is the joint_state_broadcaster active? Or set states.topic.",
            patience=START_UP,
        )
        self._description: InputWatch | None = None
        if config.description_topic:
            self._description = InputWatch(
                self,
                self.create_subscription(
                    String,
                    config.description_topic,
                    self._on_description,
                    LATCHED,
                    event_callbacks=WATCHED,
                ),
                self.commands.complaints,
                missing="no robot description",
                refused="description rejected",
                remedy="Start robot_state_publisher, or set description.topic to ''.",
                patience=START_UP,
            )
        self.chores = Chores(self)
        self.chores.every(1.0 / config.status_rate, self._publish_status)
        self.chores.every(1.0, self._publish_diagnostics)

    def _ignores(self, source: bytes) -> bool:
        """Whether a message of a publisher is rejected before it is decoded."""
        refused = self._broadcaster.refuses(source)
        if refused:
            self.refusals.add(Refusal.SOURCE)
        return refused

    def _on_states(self, message: JointState, source: bytes) -> None:
        try:
            values = convert.observation(message, self.spec).values
        except BadMessageError as error:
            self.refusals.add(error.reason)
            self._states.refuse(error.reason, str(error))
            return
        self._broadcaster.follow(source)
        # Stamped by the clock of this computer, because the robot's computer may have another clock.
        obs = Observation(stamp=time.monotonic(), values=values)
        self._states.use(obs.stamp)
        if self._driver is not None:
            self._driver.newest = obs
            return
        self._driver = Controllers(self.spec, obs, self._send)
        self.robot = GatedRobot(self._driver, clock=time.monotonic)
        self.commands.begin(self._driver.hold)
        self.loop = ControlLoop(
            self.robot,
            self.commands.arbiter,
            report=self._publish,
            write=self._write,
            progress=self._progress,
            tidy=lambda left: self.commands.log_mode(),
        )

    def _on_description(self, message: String) -> None:
        try:
            self._disagrees = differences(self.spec, message.data)
        except SpecError as error:
            self._disagrees = [str(error)]
        for what in self._disagrees:
            self.get_logger().error(f"the description permits less than the spec: {what}")
        if self._disagrees:
            self.commands.arbiter.disarm()

    def why_not(self) -> str:
        """Return the reason against arming; empty if there is none."""
        if self.commands.clock.words:
            return self.commands.clock.words
        if self.robot is None:
            return self._states.words or self._states.look(True)
        if self._disagrees is None and self._description is not None:
            return self._description.words or self._description.look(True)
        return "; ".join(self._disagrees or [])

    def _look(self) -> None:
        """Check states and description of the robot, and log missing ones."""
        self._states.look(self.robot is None or self._states.silence > SILENCE)
        if self._description is not None:
            self._description.look(self._disagrees is None)

    @property
    def _missing(self) -> list[str]:
        """Missing inputs at the last check, from the robot and from the agent."""
        inputs = [self._states, *([self._description] if self._description else [])]
        return [*(each.words for each in inputs if each.words), *self.commands.missing]

    def _on_armed(self) -> None:
        self._broadcaster.arm(silent=self._sensed_nothing())

    def _sensed_nothing(self) -> bool:
        """Whether the newest observation is too old."""
        if self._driver is None:
            return True
        return time.monotonic() - self._driver.newest.stamp > self.spec.safety.max_age * self.spec.dt

    def _write(self, mode: Mode, action: Any) -> np.ndarray:
        """Send an action through the gate if the plant is armed, and return the applied action, `A`."""
        assert self.robot is not None and self._driver is not None
        if mode is Mode.LIMP:
            # Not armed: other software may command the robot.
            self._driver.follow()
            return self._driver.hold
        return self.robot.write(action)

    def _publish(
        self, obs: Observation | None, applied: np.ndarray | None, cuts: tuple[Cut, ...], latency: float
    ) -> None:
        """Publish the last observation and the applied action. See `ReportPeriod`."""
        if self._wants_armed and not self.why_not():
            self._wants_armed = False
            self.commands.arbiter.supervisor.arm()
        if obs is None or applied is None or self._sensed_nothing():
            # An old observation must not get a new stamp; an agent without observations does not act.
            return
        if not self.commands.clock.runs(self._now()):
            # The agent would act on invalid stamps, and learn from them.
            return
        stamp = self.commands.next_stamp()
        self.commands.publish_contact(stamp, cuts)
        self._applied.publish(convert.action_message(applied, self.spec, stamp))
        self._sensed.publish(convert.observation_message(obs.values, self.spec, stamp))

    def _send(self, action: np.ndarray) -> None:
        self.sent += 1
        self._out.publish(self._as_message(action, self.spec))

    def _publish_status(self) -> None:
        values = {
            "robot": self.spec.name,
            "spec_digest": self.spec.digest(),
            "why_not_armed": self.why_not(),
            "periods": self.loop.periods if self.loop else 0,
            "skipped_periods": self.loop.skipped if self.loop else 0,
            "sent": self.sent,
            "states_refused": self.refusals.to_dict(),
            "wrong": self.commands.complaints.present(),
            "gate": self.robot.gate.status() if self.robot else {},
            **self.commands.status(),
            "missing": self._missing,
        }
        self._status.publish(convert.json_message(values))

    def _publish_diagnostics(self) -> None:
        self._broadcaster.look()
        self._look()
        gate = self.robot.gate if self.robot else None
        cut = {f"cut_{rule.value}": count for rule, count in gate.counts.items()} if gate else {}
        components = self.commands.diagnostics({"why_not_armed": self.why_not(), **cut})
        self._diagnostics.publish(convert.diagnostics_message(self._now(), self.spec.name, components))

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def run(node: ControlNode, executor: Executor, stop: Stop, progress: Callable[[], None]) -> None:
    """Run the control loop at the rate of the spec on absolute deadlines; missed periods are skipped.

    Args:
        progress: Called once per period, also before the first joint states.
    """
    deadlines = Deadlines(node.spec.dt)
    longest = LOOK if node.config.commands.guard else node.spec.dt

    def wait() -> None:
        node.chores.do(deadlines.left)
        left = deadlines.left()
        if left > 0:
            spin_once(executor, node, min(left, longest))

    node.commands.log_mode()
    while node.loop is None and not stop.asked:
        wait()
        if deadlines.left() <= 0:
            deadlines.reached()
            progress()
    if node.loop is not None:
        node.loop.run(deadlines, lambda: stop.asked, wait)


def main() -> None:
    """Run the node until Ctrl-C."""
    service = Service()
    with running(lambda: ControlNode(service.progress)) as (node, stop):
        use_real_time(node, node.config.priority)
        service.ready()
        run(node, executor_of(node), stop, service.progress)
        service.stopping()


if __name__ == "__main__":
    main()
