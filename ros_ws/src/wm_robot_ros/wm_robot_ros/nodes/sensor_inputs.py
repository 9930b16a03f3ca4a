"""Sensor inputs: subscriptions of the sensors beyond the joints, and the health of these sensors."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions

from wm_robot.spec import JOINTS, RobotSpec
from wm_robot.streams.observation_assembler import AssembledObservation, ObservationAssembler
from wm_robot.streams.rejection import BadMessageError
from wm_robot.streams.sensor_buffer import SensorBuffer
from wm_robot.streams.sensor_health import SensorHealth
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot_ros.middleware.node_runtime import log_incompatible_qos
from wm_robot_ros.middleware.qos import SENSOR_QOS
from wm_robot_ros.middleware.sensor_messages import find_message_class

QUEUED_PERIODS = 4
"""Control periods whose messages a queue holds."""
MIN_DEPTH = 8
"""Smallest depth of a queue."""
MIN_WAIT = 1.0
"""Shortest time after a start before a sensor counts as failed, in s."""


class SensorInputs:
    """Subscriptions of the sensors of a robot, and of its floating base.

    Create it before the subscription of the joint states: waiting messages are processed in this order.
    """

    def __init__(
        self,
        node: Node,
        spec: RobotSpec,
        throttled_log: ThrottledLog,
        resources: ExitStack,
        *,
        is_used: Callable[[int], bool],
    ):
        """Args:
        throttled_log: Log of publishers with an incompatible QoS.
        resources: Stack that destroys each subscription when it closes.
        is_used: Whether messages are used that arrive at a time in ns.
        """
        self._node, self._spec, self._is_used = node, spec, is_used
        self._assembler = ObservationAssembler(spec)
        self._faults = ThrottledLog(node.get_logger().warning)
        """Log of sensors that fail. Their own diagnostics report them, so they are no fault of the observations."""
        # A line of its own, since rclpy allows a line of code one severity.
        self._returns = ThrottledLog(lambda text: node.get_logger().info(text))
        self._failed = set[str]()
        self._frozen_joints: tuple[str, ...] = ()
        self.restart_wait()
        for buffer in self._assembler.buffers.values():
            self._subscribe(buffer, throttled_log, resources)

    def _subscribe(self, buffer: SensorBuffer, throttled_log: ThrottledLog, resources: ExitStack) -> None:
        sensor, qos = buffer.sensor, copy(SENSOR_QOS)
        qos.depth = max(MIN_DEPTH, math.ceil(QUEUED_PERIODS * sensor.rate * self._spec.dt))
        subscription = self._node.create_subscription(
            find_message_class(sensor),
            sensor.topic,
            partial(self._on_message, buffer),
            qos,
            event_callbacks=log_incompatible_qos(sensor.topic, throttled_log),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        resources.callback(self._node.destroy_subscription, subscription)

    def reset(self) -> None:
        """Discard all readings, as at activation."""
        self._assembler.reset()
        self.restart_wait()

    def restart_wait(self) -> None:
        """Restart the wait for the first messages."""
        self._wait_start, self._frozen_joints = time.monotonic(), ()
        self._failed.clear()

    def assemble(
        self,
        stamp: int,
        arrival: int,
        joints: np.ndarray,
        *,
        find_faults: Callable[[np.ndarray], Mapping[str, str]] | None = None,
    ) -> AssembledObservation:
        """Assemble an observation; see `ObservationAssembler.assemble`."""
        found = self._assembler.assemble(stamp, arrival, joints, find_faults=find_faults)
        if found.faults and JOINTS in found.missing_required:
            names = self._spec.layout.names[self._spec.layout.find_sensor(JOINTS)]
            self._frozen_joints = tuple(name for name in names if name in found.faults)
        else:
            self._frozen_joints = ()
        return found

    def check_sensors(self) -> list[str]:
        """Log sensors that failed or returned, and describe the required ones without a valid reading."""
        missing = []
        for health in self.list_health():
            if health.cause:
                self._report_failure(health.name, health.sentence)
                if health.is_required:
                    missing.append(health.sentence)
            elif health.name in self._failed:
                self._failed.discard(health.name)
                words = f"{health.sentence} again"
                self._returns.report_cause(health.name, partial(str, words), is_condition=True)
        if self._frozen_joints:
            words = (
                f"the readings of {list(self._frozen_joints)} repeat the same bits while the model predicts a "
                "change, and the robot is not driven without them. Restart the driver of the joints"
            )
            self._report_failure(JOINTS, words)
            missing.append(words)
        return missing

    def _report_failure(self, name: str, text: str) -> None:
        self._failed.add(name)
        self._faults.report_cause(name, partial(str, text), is_condition=True)

    def list_health(self) -> list[SensorHealth]:
        """List the health of each sensor; none while its first message may still be on its way."""
        now, waited = self._read_clock(), time.monotonic() - self._wait_start
        return [
            each
            for each in self._assembler.list_health(now)
            if each.age is not None or waited > max(MIN_WAIT, each.max_age)
        ]

    def find_faults(self) -> dict[str, str]:
        """Find the sensors without a valid reading, each with its cause."""
        return {each.name: each.cause for each in self.list_health() if each.cause}

    def describe_diagnostics(self, node_name: str) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Return name, level, message and values of the diagnostic status of each sensor."""
        return [
            (f"{node_name}: sensor {each.name}", each.level, each.sentence, each.to_dict())
            for each in self.list_health()
        ]

    def _on_message(self, buffer: SensorBuffer, message: Any) -> None:
        now = self._read_clock()
        if not self._is_used(now):
            return
        try:
            buffer.receive_message(message, now)
        except BadMessageError:
            # Its buffer counts it, and its health says why.
            return

    def _read_clock(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
