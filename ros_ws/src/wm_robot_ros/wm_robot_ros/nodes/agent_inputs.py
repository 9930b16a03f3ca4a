"""Agent inputs: subscriptions that give aligned observations, transitions and goals."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import PointStamped
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_robot.spec import RobotSpec
from wm_robot.streams.rejection import UNTIMELY, BadMessageError, Refusal, check_time
from wm_robot.streams.throttled_log import Complaints
from wm_robot.streams.transition_assembler import Lived, Pairing
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.input_monitor import WATCHED, InputWatch
from wm_robot_ros.middleware.node_runtime import incompatible_qos
from wm_robot_ros.middleware.qos import SENSOR
from wm_robot_ros.middleware.subscriptions import Newest, OneSpeaker
from wm_robot_ros.nodes.agent_parameters import AgentConfig
from wm_robot_ros.nodes.input_health import InputHealth, InputNeeds


class InputReceiver(InputNeeds, Protocol):
    """Receiver of observations and applied commands."""

    def take_observation(self, stamp: int, obs: np.ndarray, due: float) -> None:
        """Act on an observation.

        Args:
            stamp: Stamp of the observation, in ns.
            obs: Sensor values, `O`.
            due: Earliest time of the next observation, in s of the monotonic clock.
        """

    def take_applied(self) -> None:
        """Use an applied command that arrived after its observation."""


class AgentInputs:
    """Subscriptions of an agent: observations, applied commands, targets and interventions of the plant."""

    def __init__(
        self,
        node: Node,
        receiver: InputReceiver,
        spec: RobotSpec,
        config: AgentConfig,
        complaints: Complaints,
        resources: ExitStack,
    ):
        """Args:
        resources: Stack that destroys each subscription when it closes.
        """
        self._node, self._receiver, self._spec, self._config = node, receiver, spec, config
        self.pairing = Pairing(period=spec.dt, max_age=config.max_age)
        self._goal: tuple[int, np.ndarray] | None = None
        """Newest target with its stamp, in ns."""
        self._contact = False
        """Whether the plant reported an intervention in the transition that is not complete yet."""
        self._sensing, self._applying = (
            OneSpeaker(node, topic, complaints, wary=False) for topic in ("joint_states", "applied_command")
        )
        contact = incompatible_qos("plant/contact", complaints)
        # Waiting messages are processed in the order of these subscriptions, so the observation comes last.
        target = self._subscribe(PointStamped, "target", self._on_target, WATCHED)
        contacts = self._subscribe(String, "plant/contact", self._on_contact, contact)
        applied = self._subscribe_newest("applied_command", self._on_applied, self._applying)
        sensed = self._subscribe_newest("joint_states", self._on_observation, self._sensing)
        for subscription in (target, contacts, applied, sensed):
            resources.callback(node.destroy_subscription, subscription)
        self.health = InputHealth(
            node,
            receiver,
            complaints,
            period=spec.dt,
            target_max_age=config.target_max_age,
            listeners=config.listeners,
            sensed=sensed,
            applied=applied,
            target=target,
        )

    def start(self) -> None:
        """Discard all earlier messages, as at activation."""
        self.pairing.forget()
        for speaker in (self._sensing, self._applying):
            speaker.forget()
        self.health.begin()

    def start_state(self) -> None:
        """Discard the transitions from before the start of a lifetime state, which must not learn from them."""
        while self.pairing.take() is not None:
            continue
        self.health.start_state()

    def take_transitions(self) -> list[Lived]:
        """Return the complete transitions, the oldest first; each is returned once."""
        found = []
        while (transition := self.take_transition()) is not None:
            found.append(transition)
        return found

    def take_transition(self) -> Lived | None:
        """Return the oldest complete transition, or None."""
        transition = self.pairing.take()
        if transition is None:
            return None
        contact, self._contact = self._contact, False
        return replace(transition, contact=contact)

    def goal_at(self, stamp: int) -> np.ndarray | None:
        """Return the goal at a stamp, in ns; None if no target is recent."""
        if not self._receiver.needs_goal:
            goal: np.ndarray | None = np.zeros(0, np.float32)
        elif self._goal is None or stamp - self._goal[0] > self._config.target_max_age * 1e9:
            goal = None
        else:
            goal = self._goal[1]
        self.health.aimless += goal is None
        self.health.answered += goal is not None
        return goal

    def check(self) -> None:
        """Check for lost publishers, for additional publishers, and for missing inputs; call about once a second."""
        for speaker in (self._sensing, self._applying):
            speaker.look()
        self.health.look()

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], events: SubscriptionEventCallbacks
    ) -> Subscription:
        return self._node.create_subscription(
            kind,
            topic,
            callback,
            # A copy, because overriding parameters are written into the profile.
            copy(SENSOR),
            event_callbacks=events,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _subscribe_newest(
        self, topic: str, callback: Callable[[JointState, bytes], None], speaker: OneSpeaker
    ) -> Subscription:
        return Newest(
            self._node,
            JointState,
            topic,
            callback,
            refuses=partial(self._ignores, speaker),
            event_callbacks=WATCHED,
        ).subscription

    def _ignores(self, speaker: OneSpeaker, source: bytes) -> bool:
        """Whether a message of a publisher is rejected before it is decoded."""
        if not self._receiver.active:
            return True
        refused = speaker.refuses(source)
        if refused:
            self.pairing.refusals.add(Refusal.SOURCE)
        return refused

    def _on_target(self, message: PointStamped) -> None:
        try:
            stamp, goal = convert.stamp_of(message), convert.goal(message)
        except BadMessageError as error:
            self._refuse(self.health.target, error.reason, str(error))
            return
        last, now = self._goal[0] if self._goal else 0, self._now()
        oldest = max(self._config.target_max_age, self._config.max_age)
        if not self.health.clock.runs(now):
            return
        refusal = check_time(stamp, now, last, round(oldest * 1e9))
        if refusal:
            self._refuse(self.health.target, refusal, UNTIMELY[refusal])
            return
        self._goal = stamp, goal
        self.health.target.use(time.monotonic())

    def _on_contact(self, message: String) -> None:
        self._contact = True

    def _on_applied(self, message: JointState, source: bytes) -> None:
        try:
            self.pairing.apply(convert.stamp_of(message), convert.action(message, self._spec))
        except BadMessageError as error:
            self._refuse(self.health.applied, error.reason, str(error))
            return
        self._applying.follow(source)
        self.health.applied.use(time.monotonic())
        self._receiver.take_applied()

    def _on_observation(self, message: JointState, source: bytes) -> None:
        stamp, now = convert.stamp_of(message), self._now()
        if not self.health.clock.runs(now):
            self.pairing.refusals.add(Refusal.NO_CLOCK)
            return
        refusal = self.pairing.untimely(stamp, now)
        if refusal:
            self.health.sensed.refuse(refusal, UNTIMELY[refusal])
            return
        try:
            obs = convert.observation(message, self._spec).values
        except BadMessageError as error:
            self._refuse(self.health.sensed, error.reason, str(error))
            return
        if self.pairing.sense(stamp, self._now(), obs) is None:
            self._sensing.follow(source)
            moment = time.monotonic()
            self.health.sensed.use(moment)
            age = max(0, self._now() - stamp) / 1e9
            self._receiver.take_observation(stamp, obs, moment + self._spec.dt - age)

    def _refuse(self, watch: InputWatch, reason: Refusal, words: str) -> None:
        """Count a rejected message, and log the reason."""
        self.pairing.refusals.add(reason)
        watch.refuse(reason, words)

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
