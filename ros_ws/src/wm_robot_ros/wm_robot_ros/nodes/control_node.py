"""The plant behind ros2_control: a robot's own controllers, with the gate in front of them.

It stands where the simulated plant does. What the joint_state_broadcaster says goes on, at the spec's rate and in its
order; what an agent asks for goes through the gate, and then to a controller, as a trajectory of one point or as an
array. Nothing is sent before somebody arms it, and it cannot be armed while the robot's description allows less than
the spec.
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
"""Longest time between two looks at the guard's page, in s."""
KINDS: dict[str, tuple[type, Callable[[np.ndarray, RobotSpec], Any]]] = {
    "joint_trajectory": (JointTrajectory, convert.trajectory_message),
    "float64_multi_array": (Float64MultiArray, convert.array_message),
}
"""What a controller takes: joint_trajectory_controller the first, forward controllers the second."""


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """Parameters of the node."""

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
            kind=declare(node, "command.kind", "joint_trajectory", f"one of {', '.join(KINDS)}"),
            command_topic=declare(
                node, "command.topic", "/joint_trajectory_controller/joint_trajectory", "of the controller"
            ),
            states_topic=declare(node, "states.topic", "/joint_states", "of the joint_state_broadcaster"),
            description_topic=declare(
                node, "description.topic", "/robot_description", "URDF to check the spec against; empty: none"
            ),
            commands=CommandConfig.declare(node, armed=False),
            status_rate=declare(node, "status_rate", 10.0, "Hz of ~/status", bounds=(2, 50)),
            priority=declare(node, "realtime.priority", 0, "of SCHED_FIFO; 0: none", bounds=(0, 99)),
        )


class Controllers:
    """A driver of the gate: the newest reading, and a topic that leads to the motors."""

    def __init__(self, spec: RobotSpec, first: Observation, send: Callable[[np.ndarray], None]):
        self.spec, self.newest, self._send = spec, first, send
        self.follow()

    def follow(self) -> None:
        """While somebody else moves it, where it is to be is where it is."""
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
    """Translates between an agent and controllers of ros2_control."""

    def __init__(self, progress: Callable[[], None] = lambda: None) -> None:
        """Args:
            progress: Called at the end of every period.

        Raises:
            WmRobotError: If the parameters cannot be.
        """
        super().__init__(NAME)
        self.config = config = ControlConfig.declare(self)
        warn_of_unknown(self)
        self.spec = spec = load_spec(config.robot)
        if config.kind not in KINDS:
            raise ConfigError(f"command.kind is '{config.kind}'; it must be one of {sorted(KINDS)}")
        if self.resolve_topic_name(config.states_topic) == self.resolve_topic_name("joint_states"):
            raise ConfigError(
                f"states.topic is {config.states_topic}, which this node publishes itself. Put it in a namespace"
            )
        kind, self._as_message = KINDS[config.kind]
        self._as_message(np.zeros(spec.action_dim), spec)
        self.refusals = Refusals()
        """Of what the robot's broadcaster says."""
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
        """From the first states of the robot on."""
        self._progress, self._wants_armed = progress, config.commands.armed
        self._disagrees: list[str] | None = None if config.description_topic else []
        """What the description allows less than the spec; None until it came."""
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
            refused="states are refused",
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
                refused="description refused",
                remedy="Start robot_state_publisher, or set description.topic to ''.",
                patience=START_UP,
            )
        self.chores = Chores(self)
        self.chores.every(1.0 / config.status_rate, self._publish_status)
        self.chores.every(1.0, self._publish_diagnostics)

    def _ignores(self, source: bytes) -> bool:
        """Whether what a publisher says of the robot does not count, whatever it is."""
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
        # By our own clock: that of the robot's computer may be another one.
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
            self.get_logger().error(f"the description allows less than the spec: {what}")
        if self._disagrees:
            self.commands.arbiter.disarm()

    def why_not(self) -> str:
        """What keeps it from being armed; empty: nothing."""
        if self.commands.clock.words:
            return self.commands.clock.words
        if self.robot is None:
            return self._states.words or self._states.look(True)
        if self._disagrees is None and self._description is not None:
            return self._description.words or self._description.look(True)
        return "; ".join(self._disagrees or [])

    def _look(self) -> None:
        """Find out what the robot does not tell, and log it."""
        self._states.look(self.robot is None or self._states.silence > SILENCE)
        if self._description is not None:
            self._description.look(self._disagrees is None)

    @property
    def _missing(self) -> list[str]:
        """What was missing at the last look, of the robot and of who commands it."""
        inputs = [self._states, *([self._description] if self._description else [])]
        return [*(each.words for each in inputs if each.words), *self.commands.missing]

    def _on_armed(self) -> None:
        self._broadcaster.arm(silent=self._sensed_nothing())

    def _sensed_nothing(self) -> bool:
        """Whether all that is known of the robot is old."""
        if self._driver is None:
            return True
        return time.monotonic() - self._driver.newest.stamp > self.spec.safety.max_age * self.spec.dt

    def _write(self, mode: Mode, action: Any) -> np.ndarray:
        """Pass on what the gate lets through, once it is armed; returns what is applied, `A`."""
        assert self.robot is not None and self._driver is not None
        if mode is Mode.LIMP:
            # Not armed: whoever commands the robot now, it is not us.
            self._driver.follow()
            return self._driver.hold
        return self.robot.write(action)

    def _publish(
        self, obs: Observation | None, applied: np.ndarray | None, cuts: tuple[Cut, ...], latency: float
    ) -> None:
        """Publish what was sensed last, and what is applied on it. See `ReportPeriod`."""
        if self._wants_armed and not self.why_not():
            self._wants_armed = False
            self.commands.arbiter.supervisor.arm()
        if obs is None or applied is None or self._sensed_nothing():
            # Old news is not sent on as new; an agent without observations does not act.
            return
        if not self.commands.clock.runs(self._now()):
            # Stamps that no clock gave would be acted on, and learned from.
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
    """Keep the spec's rate on absolute deadlines; periods that passed meanwhile are skipped.

    Args:
        progress: Called once a period, also before the robot is known.
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
