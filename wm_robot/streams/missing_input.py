"""What keeps an input of a node from being used, in one sentence with the next move.

Log, /diagnostics and services use the same sentence. It holds no number that changes from second to second, so that a
log has it once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 4
"""Publishers and topics that a sentence names."""
RECENT = 1.0
"""Age in s up to which the last used message counts as one that still comes."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How the messages of a topic are delivered, in the words of ROS."""

    reliability: str
    """`best effort` or `reliable`."""
    durability: str
    """`volatile` or `transient local`."""

    @property
    def accepts(self) -> str:
        """What a publisher must offer to a subscription that asks for this."""
        asked = [
            word for word in ("reliable", "transient local") if word in (self.reliability, self.durability)
        ]
        return " and ".join(asked) or "any QoS"

    def weaker(self, asked: "Delivery") -> list[str]:
        """What is offered here and is less than a subscription asks for."""
        pairs = (
            (self.reliability, "best effort", asked.reliability, "reliable"),
            (self.durability, "volatile", asked.durability, "transient local"),
        )
        return [
            f"offers {offered}, and {wanted} is asked for"
            for offered, weak, wanted, strong in pairs
            if offered == weak and wanted == strong
        ]


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """One publisher of a topic."""

    node: str
    """Full name."""
    kind: str
    """Type of its messages, as `sensor_msgs/msg/JointState`."""
    delivery: Delivery

    def misfit(self, wanted: "Input") -> str:
        """Why its messages cannot reach an input; empty if they can."""
        if self.kind != wanted.kind:
            return f"publishes {self.kind}"
        return " and ".join(self.delivery.weaker(wanted.delivery))


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input as its node declares it."""

    topic: str
    """Resolved name."""
    kind: str
    delivery: Delivery
    missing: str
    """What the node lacks without it, as `no observation to act on`."""
    needs: str = ""
    """What else must be true of its messages, as `in frame 'base_link'`."""
    remedy: str = ""
    """The next move where nothing is published."""

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
    """Why nothing that can be used comes in, and what to do.

    Args:
        publishers: All of the topic, ours included.
        elsewhere: Topics of the same last name and type that have a publisher.
        age: Of the last message that was used, in s; None if there was none.
        refusal: Why the last message was refused; empty if it was used, or none came.
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
            f"{topic} has {_count(publishers)} of which none fits: {causes}",
            f"{wanted._publish}.",
        )
    elif age is None:
        found = f"{topic} has {_count(fit)} ({_listed(fit)}), and nothing has come that could be used"
    elif age > RECENT:
        found = f"{topic} has {_count(fit)} ({_listed(fit)}), and its messages have stopped"
    else:
        found = f"{topic} has {_count(fit)} ({_listed(fit)}), and its messages come too seldom or are too old"
        next_move = f"{wanted._publish}."
    if refusal:
        found += f"; the last message was refused: {refusal.rstrip('.')}"
    return f"{wanted.missing}: {found}. {next_move}".strip()


def misfits(wanted: Input, publishers: Sequence[Publisher]) -> str:
    """Whose messages cannot be received, though those of others may be; empty if there is no such publisher."""
    causes = [f"{each.node} {why}" for each in publishers if (why := each.misfit(wanted))]
    if not causes:
        return ""
    return f"{wanted.topic} is not received from every publisher: {_listed(causes, between='; ')}. {wanted._publish}."


def _count(publishers: Sequence[object]) -> str:
    return f"{len(publishers)} publisher" + "s" * (len(publishers) != 1)


def _listed(names: Sequence[str], between: str = ", ") -> str:
    some = sorted(dict.fromkeys(names))
    more = [f"{len(some) - MOST} more"] if len(some) > MOST else []
    return between.join(some[:MOST] + more)
