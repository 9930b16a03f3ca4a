"""Input monitor: checks the inputs and the clock of a node, and describes what is missing."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from wm_robot.streams.clock_monitor import ClockMonitor
from wm_robot.streams.missing_input import (
    DeliveryQos,
    InputTopic,
    PublisherInfo,
    describe_mismatches,
    describe_missing_input,
)
from wm_robot.streams.rejection import RejectionReason
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot_ros.middleware.subscriptions import UNNAMED_NODE, format_node_name

MAX_SILENCE = 1.0
"""Time without a message after which an input counts as missing, in s."""
DISCOVERY_TIME = 2.0
"""Time for discovery before a standing clock is logged, in s."""
CLOCK_TOPIC = "/clock"
MONITORED_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
"""Event callbacks of a subscription with an `InputMonitor`, whose reports name the nodes, unlike the QoS events."""


class InputMonitor:
    """Monitor of one subscription: the time of its last used message, and the reason why there is none since."""

    def __init__(
        self,
        node: Node,
        subscription: Subscription,
        throttled_log: ThrottledLog,
        *,
        missing: str,
        rejected: str,
        needs: str = "",
        remedy: str = "",
        log_delay: float = 0.0,
    ):
        """Args:
        missing: Effect of a missing input, such as `no observation to act on`.
        rejected: Text about a rejected message, such as `observation rejected`.
        needs: Further requirement on the messages.
        remedy: Advice if no node publishes the topic.
        log_delay: Time until a missing input is logged, in s; the diagnostics report it immediately.
        """
        self._node, self._throttled_log = node, throttled_log
        self._rejected, self._log_delay = rejected, log_delay
        self.input = InputTopic(
            topic=subscription.topic_name,
            message_type=_format_type(subscription.msg_type),
            delivery=_read_delivery_qos(subscription.qos_profile),
            effect=missing,
            requirement=needs,
            remedy=remedy,
        )
        self.used_at: float | None = None
        """Time of the last used message, in s of the monotonic clock; None since the restart."""
        self.description = ""
        """Description of the missing input with its cause; empty if it was present at the last check."""
        self.restart_wait()

    def restart_wait(self) -> None:
        """Restart the wait for messages."""
        self.used_at, self._wait_start = None, time.monotonic()
        self._cause = self._rejection = self.description = ""
        self._rejected_at = 0.0
        self._lacking_since: float | None = None

    def record_use(self, time: float) -> None:
        """Record the time of a used message, in s of the monotonic clock."""
        self.used_at, self._rejection = time, ""

    def record_rejection(self, reason: RejectionReason, text: str) -> None:
        """Record and log a rejected message."""
        self._cause, self._rejection, self._rejected_at = (
            f"{self._rejected}: {reason.value}",
            text,
            time.monotonic(),
        )
        self._throttled_log.report_cause(self._cause, lambda: f"{self._rejected}: {text}")

    @property
    def silence(self) -> float:
        """Time since the last used message, or since the restart, in s."""
        return time.monotonic() - (self._wait_start if self.used_at is None else self.used_at)

    def check_input(self, is_lacking: bool, *, write_log: bool = True, has_other_cause: bool = False) -> str:
        """Check the input, and describe it if it is missing: for diagnostics, services and, after a time, the log.

        Args:
            is_lacking: Whether the node lacks the messages of this input.
            write_log: Whether to log the description.
            has_other_cause: Whether another missing input may be the cause. Then only a lack of fitting publishers is
                described.

        Returns:
            Description of the missing input; empty if it is not missing.
        """
        now, wanted = time.monotonic(), self.input
        if not is_lacking:
            self._lacking_since, self.description = None, ""
            self._log_mismatches()
            return ""
        if self._lacking_since is None:
            self._lacking_since = now
        if self._rejection and now - self._rejected_at < MAX_SILENCE:
            # Logged when the message arrived.
            self.description = self._throttled_log.describe_cause(self._cause)
            return self.description
        publishers = list_publishers(self._node, wanted.topic)
        if has_other_cause and any(not each.describe_mismatch(wanted) for each in publishers):
            self.description = ""
            return ""
        self.description = words = describe_missing_input(
            wanted,
            publishers,
            other_topics=() if publishers else self._find_other_topics(),
            age=None if self.used_at is None else now - self.used_at,
            rejection=self._rejection,
        )
        if write_log and now - self._lacking_since >= self._log_delay:
            self._throttled_log.report_cause(f"{wanted.topic}: missing", lambda: words, is_condition=True)
        return words

    def _log_mismatches(self) -> None:
        """Log incompatible publishers after their names are available."""
        publishers = [
            each for each in list_publishers(self._node, self.input.topic) if each.node != UNNAMED_NODE
        ]
        if words := describe_mismatches(self.input, publishers):
            self._throttled_log.report_cause(f"{self.input.topic}: misfits", lambda: words, is_condition=True)

    def _find_other_topics(self) -> list[str]:
        """Return topics with the same last name and type that another node publishes."""
        wanted, last = self.input, self.input.topic.rpartition("/")[2]
        own = self._node.get_fully_qualified_name()
        return [
            topic
            for topic, kinds in self._node.get_topic_names_and_types()
            if topic != wanted.topic
            and topic.rpartition("/")[2] == last
            and wanted.message_type in kinds
            and any(each.node != own for each in list_publishers(self._node, topic))
        ]


class NodeClock:
    """Clock monitor of a node: whether the clock of its stamps runs."""

    def __init__(self, node: Node, throttled_log: ThrottledLog, period: float):
        """Args:
        period: Control period of the robot, in s.
        """
        self._node, self._throttled_log = node, throttled_log
        self._monitor = ClockMonitor(period, simulated=node.get_clock().ros_time_is_active)
        self._still_since: float | None = None
        self.fault = ""
        """Fault that forbids the use of this clock; empty if it ran at the last check."""

    def is_running(self, now: int) -> bool:
        """Whether the clock runs at the current time, in ns, so that its stamps may be used."""
        return not self._monitor.simulated or self._monitor.is_running(now, time.monotonic())

    def check_clock(self) -> str:
        """Check the clock, log its faults, and return the fault that forbids its use; empty if it runs."""
        clock, moment = self._node.get_clock(), time.monotonic()
        simulated = clock.ros_time_is_active
        publishers = [each.node for each in list_publishers(self._node, CLOCK_TOPIC)] if simulated else []
        troubles = self._monitor.find_faults(
            int(clock.now().nanoseconds), moment, simulated=simulated, publishers=publishers
        )
        self.fault = troubles.pop("still", "")
        if not self.fault:
            self._still_since = None
        elif self._still_since is None:
            self._still_since = moment
        elif moment - self._still_since >= DISCOVERY_TIME:
            troubles["still"] = self.fault
        for cause, words in troubles.items():
            self._throttled_log.report_cause(f"clock: {cause}", partial(str, words), is_condition=True)
        return self.fault

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the status."""
        watch = self._monitor
        return {"simulated": watch.simulated, "pace": watch.pace, "stops": watch.num_stops}


def list_publishers(node: Node, topic: str) -> list[PublisherInfo]:
    """List the publishers of a topic by its resolved name; takes 30 us."""
    return [
        PublisherInfo(
            node=format_node_name(info),
            message_type=info.topic_type,
            delivery=_read_delivery_qos(info.qos_profile),
        )
        for info in node.get_publishers_info_by_topic(topic)
    ]


def join_sentences(sentences: Sequence[str]) -> str:
    """Join sentences to one text without the empty ones."""
    return ". ".join(words.rstrip(".") for words in sentences if words)


def _format_type(message: type) -> str:
    package, folder = message.__module__.split(".")[:2]
    return f"{package}/{folder}/{message.__name__}"


def _read_delivery_qos(qos: QoSProfile) -> DeliveryQos:
    return DeliveryQos(
        reliability=qos.reliability.name.lower().replace("_", " "),
        durability=qos.durability.name.lower().replace("_", " "),
    )
