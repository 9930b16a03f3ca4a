"""Missing inputs: describes in one sentence why a node has no usable input, with the next move.

Log, /diagnostics and services use the same sentence. It contains no number that changes from second to second, so
that it occurs once in a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 4
"""Largest number of publishers or topics in one sentence."""
RECENT = 1.0
"""Age of the last used message, in s, up to which messages count as arriving."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Quality of service of a topic, in ROS terms."""

    reliability: str
    """`best effort` or `reliable`."""
    durability: str
    """`volatile` or `transient local`."""

    @property
    def accepts(self) -> str:
        """QoS that a publisher must offer to a subscription with this QoS."""
        asked = [
            word for word in ("reliable", "transient local") if word in (self.reliability, self.durability)
        ]
        return " and ".join(asked) or "any QoS"

    def weaker(self, asked: "Delivery") -> list[str]:
        """List the QoS that is offered here and is weaker than a subscription requests."""
        pairs = (
            (self.reliability, "best effort", asked.reliability, "reliable"),
            (self.durability, "volatile", asked.durability, "transient local"),
        )
        return [
            f"offers {offered}, and {wanted} is required"
            for offered, weak, wanted, strong in pairs
            if offered == weak and wanted == strong
        ]


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Publisher of a topic."""

    node: str
    """Full name of its node."""
    kind: str
    """Type of its messages, such as `sensor_msgs/msg/JointState`."""
    delivery: Delivery

    def misfit(self, wanted: "Input") -> str:
        """Return why its messages cannot reach an input; empty if they can."""
        if self.kind != wanted.kind:
            return f"publishes {self.kind}"
        return " and ".join(self.delivery.weaker(wanted.delivery))


@dataclass(frozen=True, kw_only=True)
class Input:
    """Input topic of a node, as the node declares it."""

    topic: str
    """Resolved name."""
    kind: str
    delivery: Delivery
    missing: str
    """What is missing without it, such as `no observation to act on`."""
    needs: str = ""
    """Further requirement on its messages, such as `in frame 'base_link'`."""
    remedy: str = ""
    """Next move if nothing is published."""

    @property
    def _publish(self) -> str:
        words = f"Publish {self.kind} there with {self.delivery.accepts}"
        return f"{words}, {self.needs}" if self.needs else words


def sentence(
    wanted: Input,
    publishers: Sequence[Publisher],
    *,
    elsewhere: Sequence[str] = (),
    age: float | None = None,
    refusal: str = "",
) -> str:
    """Describe why no usable message arrives, and the next move.

    Args:
        publishers: All publishers of the topic, including this node's own.
        elsewhere: Other topics with a publisher, of the same base name and type.
        age: Age of the last used message, in s; None if there was none.
        refusal: Why the last message was rejected; empty if it was used, or none arrived.
    """
    unfit = {each: why for each in publishers if (why := each.misfit(wanted))}
    fit = [each.node for each in publishers if each not in unfit]
    topic, next_move = wanted.topic, wanted.remedy
    if not publishers:
        found = f"{topic} has no publisher"
        next_move = f"{wanted._publish}. {wanted.remedy}"
        if elsewhere:
            next_move += f" {wanted.kind} is published on {_listed(elsewhere)}: use one namespace, or remap."
    elif not fit:
        causes = _listed([f"{each.node} {why}" for each, why in unfit.items()], between="; ")
        found, next_move = (
            f"{topic} has {_count(publishers)}, none of them compatible: {causes}",
            f"{wanted._publish}.",
        )
    elif age is None:
        found = f"{topic} has {_count(fit)} ({_listed(fit)}), and no usable message has arrived"
    elif age > RECENT:
        found = f"{topic} has {_count(fit)} ({_listed(fit)}), and its messages have stopped"
    else:
        found = (
            f"{topic} has {_count(fit)} ({_listed(fit)}), and its messages arrive too rarely or are too old"
        )
        next_move = f"{wanted._publish}."
    if refusal:
        found += f"; the last message was rejected: {refusal.rstrip('.')}"
    return f"{wanted.missing}: {found}. {next_move}".strip()


def misfits(wanted: Input, publishers: Sequence[Publisher]) -> str:
    """Describe the publishers whose messages cannot be received; empty if there are none."""
    causes = [f"{each.node} {why}" for each in publishers if (why := each.misfit(wanted))]
    if not causes:
        return ""
    return f"{wanted.topic} is not received from all publishers: {_listed(causes, between='; ')}. {wanted._publish}."


def _count(publishers: Sequence[object]) -> str:
    return f"{len(publishers)} publisher" + "s" * (len(publishers) != 1)


def _listed(names: Sequence[str], between: str = ", ") -> str:
    some = sorted(dict.fromkeys(names))
    more = [f"{len(some) - MOST} more"] if len(some) > MOST else []
    return between.join(some[:MOST] + more)
