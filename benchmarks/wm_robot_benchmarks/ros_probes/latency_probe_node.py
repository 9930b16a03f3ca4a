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

from wm_robot.control.realtime import Deadlines, defer_garbage_collection
from wm_robot.errors import DeviceError
from wm_robot.io.durable import write_file
from wm_robot.robots import load_spec
from wm_robot.streams.command_buffer import CommandBuffer
from wm_robot.streams.rejection import BadMessageError
from wm_robot_benchmarks.ros_probes.echo_timing import RoundTripLog
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.node_runtime import (
    ShutdownFlag,
    make_executor,
    run_node,
    spin_once,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import declare_parameter
from wm_robot_ros.middleware.qos import COMMAND_QOS, OUTPUT_QOS

ANSWER_TIMEOUT = 60.0
"""Timeout of the first answer, in s."""
WARM = 1.0
"""Warm-up from the first answer to the start of the measurement, in s."""
DRAIN = 0.5
"""Time for the last answers, in s."""
SPIN_SHORTEST = 0.0005
"""QoS of the plant."""


class LatencyProbeNode(Node):
    """Latency probe: publishes observations and receives commands."""

    def __init__(self) -> None:
        super().__init__("plant")
        spec = self.spec = load_spec(declare_parameter(self, "robot", "arm", "path of a robot's spec"))
        self.seconds = declare_parameter(self, "seconds", 60.0, "s that are counted", bounds=(0.01, 1e6))
        self.report = declare_parameter(self, "report", "", "file for what it measured; empty: none")
        self.priority = declare_parameter(
            self, "realtime.priority", 0, "of SCHED_FIFO; 0: none", bounds=(0, 99)
        )
        self._rng = np.random.default_rng(declare_parameter(self, "seed", 0, "of the readings"))
        # Range in which every reading is possible for its joint, and every answer is an action.
        self._low, self._high = spec.action_low, spec.action_high
        hold = (self._low + self._high) / 2
        self.intake = CommandBuffer(hold, is_servo=np.ones(spec.action_dim, bool), max_age=0.1, timeout=0.5)
        self.sounding: RoundTripLog | None = None
        self.heard = 0
        self._stamp = 0
        self._sensed = self.create_publisher(JointState, "joint_states", OUTPUT_QOS)
        self._applied = self.create_publisher(JointState, "applied_command", OUTPUT_QOS)
        self.create_subscription(JointState, "joint_command", self._on_command, COMMAND_QOS)

    def _on_command(self, message: JointState) -> None:
        now, stamp = self._now(), convert.read_stamp(message)
        if self.intake.reject_untimely(stamp, now):
            return
        try:
            action = convert.decode_action_message(message, self.spec)
        except BadMessageError as error:
            self.intake.rejections.count_rejection(error.reason)
            return
        self.intake.offer_command(action, stamp, now, time=time.monotonic_ns())
        self.heard += 1
        if self.sounding:
            self.sounding.record_answer(stamp, action, time.perf_counter())

    def publish_observation(self) -> None:
        """Publish one observation, and the command before it."""
        spec = self.spec
        stamp = self._stamp = max(self._now(), self._stamp + 1)
        places = self._rng.uniform(self._low, self._high).astype(np.float32)
        obs = np.zeros(spec.obs_dim, np.float32)
        obs[: places.size] = places
        self._applied.publish(
            convert.make_action_message(self.intake.take_command(time.monotonic_ns()), spec, stamp)
        )
        message = convert.make_observation_message(obs, spec, stamp)
        if self.sounding:
            self.sounding.record_sent(stamp, places, time.perf_counter())
        self._sensed.publish(message)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def receive_until(executor: Executor, node: LatencyProbeNode, until: float) -> None:
    """Receive messages until a time of the monotonic clock, in s."""
    while (left := until - time.monotonic()) > 0:
        spin_once(executor, node, left)


def publish_until(executor: Executor, node: LatencyProbeNode, stop: ShutdownFlag, until: float) -> int:
    """Publish at absolute deadlines until a time of the monotonic clock, or Ctrl-C; return how many were missed."""
    deadlines, missed = Deadlines(node.spec.dt), 0
    while not stop.is_set and deadlines.next < until:
        left = deadlines.time_left()
        if left > SPIN_SHORTEST:
            spin_once(executor, node, left - SPIN_SHORTEST)
            continue
        deadlines.wait_for_next()
        missed += deadlines.advance_to_next().num_skipped
        node.publish_observation()
    return missed


def run_probe(executor: Executor, node: LatencyProbeNode, stop: ShutdownFlag) -> dict[str, object]:
    """Publish until the first answer, during a warm-up, and then for the measurement.

    Raises:
        DeviceError: If no answer arrives.
    """
    patience = time.monotonic() + ANSWER_TIMEOUT
    while not (node.heard or stop.is_set):
        if time.monotonic() > patience:
            raise DeviceError(
                f"no answer arrived within {ANSWER_TIMEOUT:.0f} s; does an echo node run on this domain?"
            )
        publish_until(executor, node, stop, time.monotonic() + 0.1)
    publish_until(executor, node, stop, time.monotonic() + WARM)
    receive_until(executor, node, time.monotonic() + DRAIN)
    node.sounding = sounding = RoundTripLog()
    missed = publish_until(executor, node, stop, time.monotonic() + node.seconds)
    receive_until(executor, node, time.monotonic() + DRAIN)
    return sounding.to_dict() | {"skipped": missed, "refused": node.intake.rejections.to_dict()}


def main() -> None:
    """Run one measurement."""
    with run_node(LatencyProbeNode) as (node, stop):
        executor = make_executor(node, use_events=True)
        realtime = use_real_time(node, node.priority)
        # The run is too short to need garbage collection.
        garbage = defer_garbage_collection()
        measured = run_probe(executor, node, stop) | {
            "realtime": realtime,
            "garbage": garbage.describe_status(),
        }
        if node.report:
            write_file(Path(node.report), json.dumps(measured).encode())


if __name__ == "__main__":
    main()
