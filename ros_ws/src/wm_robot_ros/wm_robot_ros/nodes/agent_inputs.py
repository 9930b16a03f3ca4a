"""Agent inputs: subscriptions that give aligned observations, transitions and goals."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_robot.spec import RobotSpec, Task
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot.streams.rejection import STAMP_FAULTS, BadMessageError, RejectionReason, check_stamp
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot.streams.transition_assembler import StampedTransition, TransitionAssembler
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.input_monitor import MONITORED_EVENTS, InputMonitor
from wm_robot_ros.middleware.node_runtime import log_incompatible_qos
from wm_robot_ros.middleware.qos import SENSOR_QOS
from wm_robot_ros.middleware.subscriptions import LatestSubscription, PublisherLock
from wm_robot_ros.nodes.agent_parameters import AgentParameters
from wm_robot_ros.nodes.input_health import InputHealth, InputRequirements
from wm_robot_ros.nodes.sensor_inputs import SensorInputs

GRIPPER_TASK = Task(reward="reach", goal=3)
"""Task whose targets are received, and not used, by an agent whose task has no goal."""


class InputReceiver(InputRequirements, Protocol):
    """Receiver of observations and applied commands."""

    def act_on_observation(self, stamp: int, obs: np.ndarray, next_due: float) -> None:
        """Act on an observation.

        Args:
            stamp: Stamp of the observation, in ns.
            obs: Sensor values, `O`.
            next_due: Earliest time of the next observation, in s of the monotonic clock.
        """

    def learn_late_transition(self) -> None:
        """Use an applied command that arrived after its observation."""

    def find_faults(self, obs: np.ndarray) -> Mapping[str, str]:
        """Find the readings of an observation `O` that are frozen or noisy; see `Agent.find_faults`."""


class AgentInputs:
    """Subscriptions of an agent: observations, applied commands, targets and interventions of the plant."""

    def __init__(
        self,
        node: Node,
        receiver: InputReceiver,
        spec: RobotSpec,
        config: AgentParameters,
        throttled_log: ThrottledLog,
        resources: ExitStack,
    ):
        """Args:
        resources: Stack that destroys each subscription when it closes.
        """
        self._node, self._receiver, self._spec, self._config = node, receiver, spec, config
        self.assembler = TransitionAssembler(period=spec.dt, max_age=config.max_age)
        self._goal: tuple[int, np.ndarray] | None = None
        """Newest target with its stamp, in ns."""
        self._intervention = False
        """Whether the plant reported an intervention in the transition that is not complete yet."""
        self._observation_lock, self._applied_lock = (
            PublisherLock(node, topic, throttled_log, block_rejected=False)
            for topic in ("joint_states", "applied_command")
        )
        qos_events = log_incompatible_qos("plant/intervention", throttled_log)
        # Waiting messages are processed in the order of these subscriptions, so the observation comes last.
        task = spec.find_task(config.agent.task)
        self._goal_decoder = GoalDecoder(spec, task if task.goal else GRIPPER_TASK)
        goal_message = convert.GOAL_MESSAGES[self._goal_decoder.goal_type]
        target = self._create_subscription(goal_message, "target", self._on_target, MONITORED_EVENTS)
        interventions = self._create_subscription(
            String, "plant/intervention", self._on_intervention, qos_events
        )
        applied = self._create_latest_subscription("applied_command", self._on_applied, self._applied_lock)
        self.sensors = SensorInputs(node, spec, throttled_log, resources, is_used=self._uses_sensors)
        sensed = self._create_latest_subscription(
            "joint_states", self._on_observation, self._observation_lock
        )
        for subscription in (target, interventions):
            resources.callback(node.destroy_subscription, subscription)
        for latest in (applied, sensed):
            resources.callback(latest.destroy)
        self.health = InputHealth(
            node,
            receiver,
            throttled_log,
            period=spec.dt,
            target_max_age=config.target_max_age,
            min_subscribers=config.min_subscribers,
            command_topic=config.command_topic,
            sensed=sensed.subscription,
            applied=applied.subscription,
            target=target,
            target_requirement=self._goal_decoder.requirement,
            sensors=self.sensors,
        )

    def start_empty(self) -> None:
        """Discard all earlier messages, as at activation."""
        self.assembler.reset()
        self.sensors.reset()
        for speaker in (self._observation_lock, self._applied_lock):
            speaker.reset_lock()
        self.health.restart_wait()

    def start_state(self) -> None:
        """Discard the transitions from before the start of a lifetime state, which must not learn from them."""
        while self.assembler.take_transition() is not None:
            continue
        self.health.start_state()

    def take_transitions(self) -> list[StampedTransition]:
        """Return the complete transitions, the oldest first; each is returned once."""
        found = []
        while (transition := self.take_transition()) is not None:
            found.append(transition)
        return found

    def take_transition(self) -> StampedTransition | None:
        """Return the oldest complete transition, or None."""
        transition = self.assembler.take_transition()
        if transition is None:
            return None
        intervention, self._intervention = self._intervention, False
        return replace(transition, intervention=intervention)

    def find_goal(self, stamp: int) -> np.ndarray | None:
        """Return the goal at a stamp, in ns; None if no target is recent."""
        if not self._receiver.needs_goal:
            goal: np.ndarray | None = np.zeros(0, np.float32)
        elif self._goal is None or stamp - self._goal[0] > self._config.target_max_age * 1e9:
            goal = None
        else:
            goal = self._goal[1]
        self.health.num_without_goal += goal is None
        self.health.num_with_goal += goal is not None
        return goal

    def check_inputs(self) -> None:
        """Check for lost publishers, for additional publishers, and for missing inputs; call about once a second."""
        for speaker in (self._observation_lock, self._applied_lock):
            speaker.check_publisher()
        self.health.check_inputs()

    def _create_subscription(
        self, kind: type, topic: str, callback: Callable[[Any], None], events: SubscriptionEventCallbacks
    ) -> Subscription:
        return self._node.create_subscription(
            kind,
            topic,
            callback,
            # A copy, because overriding parameters are written into the profile.
            copy(SENSOR_QOS),
            event_callbacks=events,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _create_latest_subscription(
        self, topic: str, callback: Callable[[JointState, bytes], None], publisher_lock: PublisherLock
    ) -> LatestSubscription:
        return LatestSubscription(
            self._node,
            JointState,
            topic,
            callback,
            rejects=partial(self._rejects_publisher, publisher_lock),
            event_callbacks=MONITORED_EVENTS,
        )

    def _rejects_publisher(self, publisher_lock: PublisherLock, source: bytes) -> bool:
        """Whether a message of a publisher is rejected before it is decoded."""
        if not self._receiver.is_active:
            return True
        refused = publisher_lock.rejects_publisher(source)
        if refused:
            self.assembler.rejections.count_rejection(RejectionReason.SOURCE)
        return refused

    def _uses_sensors(self, now: int) -> bool:
        """Whether messages of sensors that arrive at a time in ns are used."""
        return self._receiver.is_active and self.health.clock.is_running(now)

    def _on_target(self, message: Any) -> None:
        last, now = self._goal[0] if self._goal else 0, self._read_clock()
        has_stamp = self._goal_decoder.has_stamp
        try:
            stamp = convert.read_stamp(message) if has_stamp else now
            goal = convert.decode_goal_message(message, self._goal_decoder)
        except BadMessageError as error:
            self._reject_message(self.health.target_monitor, error.reason, str(error))
            return
        oldest = max(self._config.target_max_age, self._config.max_age)
        if not self.health.clock.is_running(now):
            return
        refusal = check_stamp(stamp, now, last, round(oldest * 1e9)) if has_stamp else None
        if refusal:
            self._reject_message(self.health.target_monitor, refusal, STAMP_FAULTS[refusal])
            return
        self._goal = stamp, goal
        self.health.target_monitor.record_use(time.monotonic())

    def _on_intervention(self, message: String) -> None:
        self._intervention = True

    def _on_applied(self, message: JointState, source: bytes) -> None:
        try:
            self.assembler.add_applied(
                convert.read_stamp(message), convert.decode_action_message(message, self._spec)
            )
        except BadMessageError as error:
            self._reject_message(self.health.applied_monitor, error.reason, str(error))
            return
        self._applied_lock.lock_to(source)
        self.health.applied_monitor.record_use(time.monotonic())
        self._receiver.learn_late_transition()

    def _on_observation(self, message: JointState, source: bytes) -> None:
        stamp, now = convert.read_stamp(message), self._read_clock()
        if not self.health.clock.is_running(now):
            self.assembler.rejections.count_rejection(RejectionReason.NO_CLOCK)
            return
        refusal = self.assembler.reject_untimely(stamp, now)
        if refusal:
            self.health.observation_monitor.record_rejection(refusal, STAMP_FAULTS[refusal])
            return
        try:
            joints = convert.decode_joint_message(message, self._spec)
        except BadMessageError as error:
            self._reject_message(self.health.observation_monitor, error.reason, str(error))
            return
        self._observation_lock.lock_to(source)
        moment = time.monotonic()
        self.health.observation_monitor.record_use(moment)
        found = self.sensors.assemble(stamp, now, joints, find_faults=self._receiver.find_faults)
        if not found.is_valid:
            return
        if self.assembler.add_observation(stamp, self._read_clock(), found.values, found.is_new) is None:
            age = max(0, self._read_clock() - stamp) / 1e9
            self._receiver.act_on_observation(stamp, found.values, moment + self._spec.dt - age)

    def _reject_message(self, monitor: InputMonitor, reason: RejectionReason, text: str) -> None:
        """Count a rejected message, and log the reason."""
        self.assembler.rejections.count_rejection(reason)
        monitor.record_rejection(reason, text)

    def _read_clock(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
