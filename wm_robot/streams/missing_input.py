"""Missing inputs: describes in one sentence why a node has no usable input, with the next move.

Log, /diagnostics and services use the same sentence. It contains no number that changes from second to second, so
that it occurs once in a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_NAMES = 4
"""Largest number of publishers or topics in one sentence."""
MAX_MESSAGE_AGE = 1.0
"""Age of the last used message, in s, up to which messages count as arriving."""


@dataclass(frozen=True, kw_only=True)
class DeliveryQos:
    """Quality of service of a topic, in ROS terms."""

    reliability: str
    """`best effort` or `reliable`."""
    durability: str
    """`volatile` or `transient local`."""

    @property
    def qos_requirement(self) -> str:
        """QoS that a publisher must offer to a subscription with this QoS."""
        asked = [
            word for word in ("reliable", "transient local") if word in (self.reliability, self.durability)
        ]
        return " and ".join(asked) or "any QoS"

    def list_weaker_policies(self, required: "DeliveryQos") -> list[str]:
        """List the QoS that is offered here and is weaker than a subscription requests."""
        pairs = (
            (self.reliability, "best effort", required.reliability, "reliable"),
            (self.durability, "volatile", required.durability, "transient local"),
        )
        return [
            f"offers {offered}, and {wanted} is required"
            for offered, weak, wanted, strong in pairs
            if offered == weak and wanted == strong
        ]


@dataclass(frozen=True, kw_only=True)
class PublisherInfo:
    """Publisher of a topic."""

    node: str
    """Full name of its node."""
    message_type: str
    """Type of its messages, such as `sensor_msgs/msg/JointState`."""
    delivery: DeliveryQos

    def describe_mismatch(self, input_topic: "InputTopic") -> str:
        """Return why its messages cannot reach an input; empty if they can."""
        if self.message_type != input_topic.message_type:
            return f"publishes {self.message_type}"
        return " and ".join(self.delivery.list_weaker_policies(input_topic.delivery))


@dataclass(frozen=True, kw_only=True)
class InputTopic:
    """Input topic of a node, as the node declares it."""

    topic: str
    """Resolved name."""
    message_type: str
    delivery: DeliveryQos
    effect: str
    """What is missing without it, such as `no observation to act on`."""
    requirement: str = ""
    """Further requirement on its messages, such as `in frame 'base_link'`."""
    remedy: str = ""
    """Next move if nothing is published."""

    @property
    def publish_advice(self) -> str:
        """Advice to publish messages that this input accepts."""
        words = f"Publish {self.message_type} there with {self.delivery.qos_requirement}"
        return f"{words}, {self.requirement}" if self.requirement else words


def describe_missing_input(
    input_topic: InputTopic,
    publishers: Sequence[PublisherInfo],
    *,
    other_topics: Sequence[str] = (),
    age: float | None = None,
    rejection: str = "",
) -> str:
    """Describe why no usable message arrives, and the next move.

    Args:
        publishers: All publishers of the topic, including this node's own.
        other_topics: Other topics with a publisher, of the same base name and type.
        age: Age of the last used message, in s; None if there was none.
        rejection: Why the last message was rejected; empty if it was used, or none arrived.
    """
    unfit = {each: why for each in publishers if (why := each.describe_mismatch(input_topic))}
    fit = [each.node for each in publishers if each not in unfit]
    topic, next_move = input_topic.topic, input_topic.remedy
    if not publishers:
        found = f"{topic} has no publisher"
        next_move = f"{input_topic.publish_advice}. {input_topic.remedy}"
        if other_topics:
            next_move += (
                f" {input_topic.message_type} is published on {_join_names(other_topics)}: "
                "use one namespace, or remap."
            )
    elif not fit:
        causes = _join_names([f"{each.node} {why}" for each, why in unfit.items()], separator="; ")
        found, next_move = (
            f"{topic} has {_count_publishers(publishers)}, none of them compatible: {causes}",
            f"{input_topic.publish_advice}.",
        )
    elif age is None:
        found = (
            f"{topic} has {_count_publishers(fit)} ({_join_names(fit)}), and no usable message has arrived"
        )
    elif age > MAX_MESSAGE_AGE:
        found = f"{topic} has {_count_publishers(fit)} ({_join_names(fit)}), and its messages have stopped"
    else:
        found = (
            f"{topic} has {_count_publishers(fit)} ({_join_names(fit)}), "
            "and its messages arrive too rarely or are too old"
        )
        next_move = f"{input_topic.publish_advice}."
    if rejection:
        found += f"; the last message was rejected: {rejection.rstrip('.')}"
    return f"{input_topic.effect}: {found}. {next_move}".strip()


def describe_mismatches(input_topic: InputTopic, publishers: Sequence[PublisherInfo]) -> str:
    """Describe the publishers whose messages cannot be received; empty if there are none."""
    causes = [f"{each.node} {why}" for each in publishers if (why := each.describe_mismatch(input_topic))]
    if not causes:
        return ""
    return (
        f"{input_topic.topic} is not received from all publishers: {_join_names(causes, separator='; ')}. "
        f"{input_topic.publish_advice}."
    )


def _count_publishers(publishers: Sequence[object]) -> str:
    return f"{len(publishers)} publisher" + "s" * (len(publishers) != 1)


def _join_names(names: Sequence[str], separator: str = ", ") -> str:
    some = sorted(dict.fromkeys(names))
    more = [f"{len(some) - MAX_NAMES} more"] if len(some) > MAX_NAMES else []
    return separator.join(some[:MAX_NAMES] + more)
