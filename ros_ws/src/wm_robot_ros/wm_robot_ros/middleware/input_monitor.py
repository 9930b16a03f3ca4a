"""Input monitor: checks the inputs and the clock of a node, and describes what is missing."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from wm_robot.streams.clock_monitor import ClockWatch
from wm_robot.streams.missing_input import Delivery, Input, Publisher, misfits, sentence
from wm_robot.streams.rejection import Refusal
from wm_robot.streams.throttled_log import Complaints
from wm_robot_ros.middleware.subscriptions import UNNAMED, node_of

SILENCE = 1.0
"""Time without a message after which an input counts as missing, in s."""
START_UP = 2.0
"""Time for discovery before a standing clock is logged, in s."""
CLOCK = "/clock"
WATCHED = SubscriptionEventCallbacks(use_default_callbacks=False)
"""Event callbacks of a subscription with an `InputMonitor`, whose reports name the nodes, unlike the QoS events."""


class InputWatch:
    """Monitor of one subscription: the time of its last used message, and the reason why there is none since."""

    def __init__(
        self,
        node: Node,
        subscription: Subscription,
        complaints: Complaints,
        *,
        missing: str,
        refused: str,
        needs: str = "",
        remedy: str = "",
        patience: float = 0.0,
    ):
        """Args:
        missing: Effect of a missing input, such as `no observation to act on`.
        rejected: Text about a rejected message, such as `observation rejected`.
        needs: Further requirement on the messages.
        remedy: Advice if no node publishes the topic.
        patience: Time until a missing input is logged, in s; the diagnostics report it immediately.
        """
        self._node, self._complaints = node, complaints
        self._refused, self._patience = refused, patience
        self.input = Input(
            topic=subscription.topic_name,
            kind=_kind(subscription.msg_type),
            delivery=_delivery(subscription.qos_profile),
            missing=missing,
            needs=needs,
            remedy=remedy,
        )
        self.used_at: float | None = None
        """Time of the last used message, in s of the monotonic clock; None since the restart."""
        self.words = ""
        """Description of the missing input with its cause; empty if it was present at the last check."""
        self.begin()

    def begin(self) -> None:
        """Restart the wait for messages."""
        self.used_at, self._begun = None, time.monotonic()
        self._cause = self._refusal = self.words = ""
        self._refused_at = 0.0
        self._lacking_since: float | None = None

    def use(self, moment: float) -> None:
        """Record the time of a used message, in s of the monotonic clock."""
        self.used_at, self._refusal = moment, ""

    def refuse(self, reason: Refusal, why: str) -> None:
        """Record and log a rejected message."""
        self._cause, self._refusal, self._refused_at = (
            f"{self._refused}: {reason.value}",
            why,
            time.monotonic(),
        )
        self._complaints.add(self._cause, lambda: f"{self._refused}: {why}")

    @property
    def silence(self) -> float:
        """Time since the last used message, or since the restart, in s."""
        return time.monotonic() - (self._begun if self.used_at is None else self.used_at)

    def look(self, lacking: bool, *, logs: bool = True, explained: bool = False) -> str:
        """Check the input, and describe it if it is missing: for diagnostics, services and, after a time, the log.

        Args:
            lacking: Whether the node lacks the messages of this input.
            logs: Whether to log the description.
            explained: Whether another missing input may be the cause. Then only a lack of compatible publishers is
                described.

        Returns:
            Description of the missing input; empty if it is not missing.
        """
        now, wanted = time.monotonic(), self.input
        if not lacking:
            self._lacking_since, self.words = None, ""
            self._name_misfits()
            return ""
        if self._lacking_since is None:
            self._lacking_since = now
        if self._refusal and now - self._refused_at < SILENCE:
            # Logged when the message arrived.
            self.words = self._complaints.sentence(self._cause)
            return self.words
        publishers = publishers_of(self._node, wanted.topic)
        if explained and any(not each.misfit(wanted) for each in publishers):
            self.words = ""
            return ""
        self.words = words = sentence(
            wanted,
            publishers,
            elsewhere=() if publishers else self._elsewhere(),
            age=None if self.used_at is None else now - self.used_at,
            refusal=self._refusal,
        )
        if logs and now - self._lacking_since >= self._patience:
            self._complaints.add(f"{wanted.topic}: missing", lambda: words, lasting=True)
        return words

    def _name_misfits(self) -> None:
        """Log incompatible publishers after their names are available."""
        publishers = [each for each in publishers_of(self._node, self.input.topic) if each.node != UNNAMED]
        if words := misfits(self.input, publishers):
            self._complaints.add(f"{self.input.topic}: misfits", lambda: words, lasting=True)

    def _elsewhere(self) -> list[str]:
        """Return topics with the same last name and type that another node publishes."""
        wanted, last = self.input, self.input.topic.rpartition("/")[2]
        own = self._node.get_fully_qualified_name()
        return [
            topic
            for topic, kinds in self._node.get_topic_names_and_types()
            if topic != wanted.topic
            and topic.rpartition("/")[2] == last
            and wanted.kind in kinds
            and any(each.node != own for each in publishers_of(self._node, topic))
        ]


class NodeClock:
    """Clock monitor of a node: whether the clock of its stamps runs."""

    def __init__(self, node: Node, complaints: Complaints, period: float):
        """Args:
        period: Control period of the robot, in s.
        """
        self._node, self._complaints = node, complaints
        self._watch = ClockWatch(period, simulated=node.get_clock().ros_time_is_active)
        self._still_since: float | None = None
        self.words = ""
        """Fault that forbids the use of this clock; empty if it ran at the last check."""

    def runs(self, now: int) -> bool:
        """Whether the clock runs at the current time, in ns, so that its stamps may be used."""
        return not self._watch.simulated or self._watch.runs(now, time.monotonic())

    def look(self) -> str:
        """Check the clock, log its faults, and return the fault that forbids its use; empty if it runs."""
        clock, moment = self._node.get_clock(), time.monotonic()
        simulated = clock.ros_time_is_active
        publishers = [each.node for each in publishers_of(self._node, CLOCK)] if simulated else []
        troubles = self._watch.troubles(
            int(clock.now().nanoseconds), moment, simulated=simulated, publishers=publishers
        )
        self.words = troubles.pop("still", "")
        if not self.words:
            self._still_since = None
        elif self._still_since is None:
            self._still_since = moment
        elif moment - self._still_since >= START_UP:
            troubles["still"] = self.words
        for cause, words in troubles.items():
            self._complaints.add(f"clock: {cause}", partial(str, words), lasting=True)
        return self.words

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the status."""
        watch = self._watch
        return {"simulated": watch.simulated, "pace": watch.pace, "stops": watch.stops}


def publishers_of(node: Node, topic: str) -> list[Publisher]:
    """List the publishers of a topic by its resolved name; takes 30 us."""
    return [
        Publisher(
            node=node_of(info),
            kind=info.topic_type,
            delivery=_delivery(info.qos_profile),
        )
        for info in node.get_publishers_info_by_topic(topic)
    ]


def joined(sentences: Sequence[str]) -> str:
    """Join sentences to one text without the empty ones."""
    return ". ".join(words.rstrip(".") for words in sentences if words)


def _kind(message: type) -> str:
    package, folder = message.__module__.split(".")[:2]
    return f"{package}/{folder}/{message.__name__}"


def _delivery(qos: QoSProfile) -> Delivery:
    return Delivery(
        reliability=qos.reliability.name.lower().replace("_", " "),
        durability=qos.durability.name.lower().replace("_", " "),
    )
