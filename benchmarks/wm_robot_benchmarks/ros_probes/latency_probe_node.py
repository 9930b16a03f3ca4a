"""Latency probe node: publishes observations at the spec's rate and measures the delay of each command.

For `wm-robot bench ros`. It uses the same topics, QoS and checks as the plant.
"""

import json
import time
from pathlib import Path

import numpy as np
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from wm_robot.control.realtime import Deadlines, take_over_collection
from wm_robot.errors import DeviceError
from wm_robot.io.durable import write_file
from wm_robot.robots import load_spec
from wm_robot.streams.command_buffer import CommandIntake
from wm_robot.streams.rejection import BadMessageError
from wm_robot_benchmarks.ros_probes.echo_timing import Sounding
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.node_runtime import Stop, executor_of, running, spin_once, use_real_time
from wm_robot_ros.middleware.parameters import declare
from wm_robot_ros.middleware.qos import COMMAND, OUTPUT

PATIENCE = 60.0
"""Timeout of the first answer, in s."""
WARM = 1.0
"""Warm-up from the first answer to the start of the measurement, in s."""
DRAIN = 0.5
"""Time for the last answers, in s."""
SPIN_SHORTEST = 0.0005
"""QoS of the plant."""


class SounderNode(Node):
    """Latency probe: publishes observations and receives commands."""

    def __init__(self) -> None:
        super().__init__("plant")
        spec = self.spec = load_spec(declare(self, "robot", "arm", "path of a robot's spec"))
        self.seconds = declare(self, "seconds", 60.0, "s that are counted", bounds=(0.01, 1e6))
        self.report = declare(self, "report", "", "file for what it measured; empty: none")
        self.priority = declare(self, "realtime.priority", 0, "of SCHED_FIFO; 0: none", bounds=(0, 99))
        self._rng = np.random.default_rng(declare(self, "seed", 0, "of the readings"))
        # Range in which every reading is possible for its joint, and every answer is an action.
        self._low, self._high = spec.action_low, spec.action_high
        hold = (self._low + self._high) / 2
        self.intake = CommandIntake(hold, servo=np.ones(spec.action_dim, bool), max_age=0.1, timeout=0.5)
        self.sounding: Sounding | None = None
        self.heard = 0
        self._stamp = 0
        self._sensed = self.create_publisher(JointState, "joint_states", OUTPUT)
        self._applied = self.create_publisher(JointState, "applied_command", OUTPUT)
        self.create_subscription(JointState, "joint_command", self._on_command, COMMAND)

    def _on_command(self, message: JointState) -> None:
        now, stamp = self._now(), convert.stamp_of(message)
        if self.intake.untimely(stamp, now):
            return
        try:
            action = convert.action(message, self.spec)
        except BadMessageError as error:
            self.intake.refusals.add(error.reason)
            return
        self.intake.offer(action, stamp, now, moment=time.monotonic_ns())
        self.heard += 1
        if self.sounding:
            self.sounding.hear(stamp, action, time.perf_counter())

    def sound(self) -> None:
        """Publish one observation, and the command before it."""
        spec = self.spec
        stamp = self._stamp = max(self._now(), self._stamp + 1)
        places = self._rng.uniform(self._low, self._high).astype(np.float32)
        obs = np.zeros(spec.obs_dim, np.float32)
        obs[: places.size] = places
        self._applied.publish(convert.action_message(self.intake.take(time.monotonic_ns()), spec, stamp))
        message = convert.observation_message(obs, spec, stamp)
        if self.sounding:
            self.sounding.send(stamp, places, time.perf_counter())
        self._sensed.publish(message)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def listen(executor: Executor, node: SounderNode, until: float) -> None:
    """Receive messages until a time of the monotonic clock, in s."""
    while (left := until - time.monotonic()) > 0:
        spin_once(executor, node, left)


def keep_sounding(executor: Executor, node: SounderNode, stop: Stop, until: float) -> int:
    """Publish at absolute deadlines until a time of the monotonic clock, or Ctrl-C; return how many were missed."""
    deadlines, missed = Deadlines(node.spec.dt), 0
    while not stop.asked and deadlines.next < until:
        left = deadlines.left()
        if left > SPIN_SHORTEST:
            spin_once(executor, node, left - SPIN_SHORTEST)
            continue
        deadlines.wait()
        missed += deadlines.reached().skipped
        node.sound()
    return missed


def run(executor: Executor, node: SounderNode, stop: Stop) -> dict[str, object]:
    """Publish until the first answer, during a warm-up, and then for the measurement.

    Raises:
        DeviceError: If no answer arrives.
    """
    patience = time.monotonic() + PATIENCE
    while not (node.heard or stop.asked):
        if time.monotonic() > patience:
            raise DeviceError(
                f"no answer arrived within {PATIENCE:.0f} s; does an echo node run on this domain?"
            )
        keep_sounding(executor, node, stop, time.monotonic() + 0.1)
    keep_sounding(executor, node, stop, time.monotonic() + WARM)
    listen(executor, node, time.monotonic() + DRAIN)
    node.sounding = sounding = Sounding()
    missed = keep_sounding(executor, node, stop, time.monotonic() + node.seconds)
    listen(executor, node, time.monotonic() + DRAIN)
    return sounding.to_dict() | {"skipped": missed, "refused": node.intake.refusals.to_dict()}


def main() -> None:
    """Run one measurement."""
    with running(SounderNode) as (node, stop):
        executor = executor_of(node, quick=True)
        realtime = use_real_time(node, node.priority)
        # The run is too short to need garbage collection.
        garbage = take_over_collection()
        measured = run(executor, node, stop) | {"realtime": realtime, "garbage": garbage.status()}
        if node.report:
            write_file(Path(node.report), json.dumps(measured).encode())


if __name__ == "__main__":
    main()
