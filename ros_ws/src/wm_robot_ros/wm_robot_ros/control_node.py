"""The plant behind ros2_control: a robot's own controllers, with the gate in front of them.

It stands where the simulated plant does. What the joint_state_broadcaster says goes on, at the spec's rate and in its
order; what an agent asks for goes through the gate, and then to a controller, as a trajectory of one point or as an
array. Nothing is sent before somebody arms it, and it cannot be armed while the robot's description allows less than
the spec.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_robot.errors import ConfigError, SpecError
from wm_robot.io.complaints import Complaints
from wm_robot.io.intake import CommandIntake
from wm_robot.io.refusal import UNTIMELY, BadMessageError, Refusal, Refusals
from wm_robot.io.robot_description import differences
from wm_robot.safety.baseline import Baseline
from wm_robot.safety.gated_robot import GatedRobot
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import Report, Supervisor
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_ros import convert
from wm_robot_ros.one_speaker import FromWhom, OneSpeaker
from wm_robot_ros.parameters import declare, warn_of_unknown
from wm_robot_ros.qos import COMMAND, HEARTBEAT, LATCHED, OUTPUT, SENSOR
from wm_robot_ros.spin import Stop, executor_of, incompatible_qos, running, spin_once, use_real_time
from wm_robot_sim import load_spec

NAME = "plant"
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
    max_age: float
    timeout: float
    armed: bool
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
            armed=declare(node, "armed", False, "follow the first command; false: only after ~/arm"),
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

    def __init__(self) -> None:
        """Raises:
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
        self.robot: GatedRobot | None = None
        self._driver: Controllers | None = None
        self.supervisor = Supervisor(spec.safety, mode=Mode.LIMP)
        self._wants_armed = config.armed
        self._disagrees: list[str] | None = None if config.description_topic else []
        """What the description allows less than the spec; None until it came."""
        self.periods = self.sent = 0
        self._stamp = 0
        self._complaints = Complaints(self.get_logger().warning)
        self._commander = OneSpeaker(self, "joint_command", self._complaints, wary=True)

        self._out = self.create_publisher(kind, config.command_topic, OUTPUT)
        self._sensed = self.create_publisher(JointState, "joint_states", OUTPUT)
        self._applied = self.create_publisher(JointState, "applied_command", OUTPUT)
        self._status = self.create_publisher(String, "~/status", HEARTBEAT)
        for topic, callback, delivery in (
            (config.states_topic, self._on_states, SENSOR),
            ("joint_command", FromWhom(self._on_command), COMMAND),
        ):
            events = incompatible_qos(self, topic, self._complaints)
            self.create_subscription(JointState, topic, callback, delivery, event_callbacks=events)
        if config.description_topic:
            self.create_subscription(String, config.description_topic, self._on_description, LATCHED)
        self.create_service(Trigger, "~/arm", self._on_arm)
        self.create_service(Trigger, "~/disarm", self._on_disarm)
        self.create_timer(1.0 / config.status_rate, self._publish_status)
        self.create_timer(1.0, self._commander.look)

    def _on_states(self, message: JointState) -> None:
        try:
            values = convert.observation(message, self.spec).values
        except BadMessageError as error:
            self.refusals.add(error.reason)
            self._complaints.add(f"states: {error.reason.value}", partial("states refused: {}".format, error))
            return
        # By our own clock: that of the robot's computer may be another one.
        obs = Observation(stamp=time.monotonic(), values=values)
        if self._driver is not None:
            self._driver.newest = obs
            return
        self._driver = Controllers(self.spec, obs, self._send)
        self.robot = GatedRobot(self._driver, clock=time.monotonic)
        self._baseline = Baseline(self.spec, self._driver.hold)
        self.intake = CommandIntake(
            self._driver.hold,
            servo=np.array([actuator.unit == "rad" for actuator in self.spec.actuators]),
            max_age=self.config.max_age,
            timeout=self.config.timeout,
        )

    def _on_command(self, message: JointState, source: bytes) -> None:
        if self.robot is None:
            return
        if self._commander.refuses(source):
            self.refusals.add(Refusal.SOURCE)
            return
        try:
            action = convert.action(message, self.spec)
        except BadMessageError as error:
            self.refusals.add(error.reason)
            self._complaints.add(error.reason.value, partial("command refused: {}".format, error))
            return
        refusal = self.intake.offer(
            action, convert.stamp_of(message), self._now(), moment=time.monotonic_ns()
        )
        if refusal is None:
            self._commander.follow(source)
        elif refusal is not Refusal.DUPLICATE:
            self._complaints.add(refusal.value, partial("command refused: {}".format, UNTIMELY[refusal]))

    def _on_description(self, message: String) -> None:
        try:
            self._disagrees = differences(self.spec, message.data)
        except SpecError as error:
            self._disagrees = [str(error)]
        for what in self._disagrees:
            self.get_logger().error(f"the description allows less than the spec: {what}")
        if self._disagrees:
            self.supervisor.disarm()

    def why_not(self) -> str:
        """What keeps it from being armed; empty: nothing."""
        if self.robot is None:
            return f"nothing was heard on {self.config.states_topic}. Is the joint_state_broadcaster active?"
        if self._disagrees is None:
            return f"no description on {self.config.description_topic}. Publish it, or set description.topic to ''"
        return "; ".join(self._disagrees)

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = self.why_not()
        response.success = not response.message
        if response.success:
            self.supervisor.arm()
            self._commander.arm()
        return response

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.supervisor.disarm()
        response.success, response.message = True, f"disarmed in mode {self.supervisor.mode.value}"
        return response

    def period(self) -> None:
        """Say what was sensed last, and pass on what the gate lets through."""
        if self.robot is None or self._driver is None:
            return
        if self._wants_armed and not self.why_not():
            self._wants_armed = False
            self.supervisor.arm()
        self.periods += 1
        obs = self.robot.read()
        command = self.intake.take(time.monotonic_ns())
        driven, before = self.intake.started and not self.intake.holding, self.supervisor.mode
        report = Report(
            cuts=self.robot.gate.cuts, commanded=driven, silent=not driven, homed=self._baseline.homed
        )
        mode = self.supervisor.step(report)
        if mode is not before:
            if mode is Mode.HOMING:
                self._baseline.go_home(self._driver.hold)
            else:
                self._baseline.stay(self._driver.hold)
            self.get_logger().info(f"mode {mode.value}: {self.supervisor.reason}")
        if mode is Mode.LIMP:
            # Not armed: whoever commands the robot now, it is not us.
            self._driver.follow()
            applied = self._driver.hold
        else:
            applied = self.robot.write(command if mode is Mode.LEARNED else self._baseline.act())
        if time.monotonic() - obs.stamp > self.spec.safety.max_age * self.spec.dt:
            # Old news is not sent on as new; an agent without observations does not act.
            return
        self._stamp = stamp = max(self._now(), self._stamp + 1)
        self._applied.publish(convert.action_message(applied, self.spec, stamp))
        self._sensed.publish(convert.observation_message(obs.values, self.spec, stamp))

    def _send(self, action: np.ndarray) -> None:
        self.sent += 1
        self._out.publish(self._as_message(action, self.spec))

    def _publish_status(self) -> None:
        values = {
            "robot": self.spec.name,
            "spec_digest": self.spec.digest(),
            "mode": self.supervisor.mode.value,
            "reason": self.supervisor.reason,
            "why_not_armed": self.why_not(),
            "periods": self.periods,
            "sent": self.sent,
            "refused": self.refusals.to_dict(),
            "wrong": self._complaints.present(),
            "gate": self.robot.gate.status() if self.robot else {},
        }
        self._status.publish(convert.json_message(values))

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def run(node: ControlNode, executor: Executor, stop: Stop) -> None:
    """Keep the spec's rate on absolute deadlines; periods that passed meanwhile are skipped."""
    deadline = time.monotonic() + node.spec.dt
    while not stop.asked:
        left = deadline - time.monotonic()
        if left > 0:
            spin_once(executor, node, left)
            continue
        node.period()
        deadline += (1 + int(-left / node.spec.dt)) * node.spec.dt


def main() -> None:
    """Run the node until Ctrl-C."""
    with running(ControlNode) as (node, stop):
        use_real_time(node, node.config.priority)
        run(node, executor_of(node), stop)


if __name__ == "__main__":
    main()
