"""Subscriptions that know who speaks, that hear the newest, and that hear one publisher alone."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

from wm_robot.streams.source_lock import OneSource
from wm_robot.streams.throttled_log import Complaints
from wm_robot_ros.middleware.qos import NEWEST

NOBODY = "a node that is gone"
UNNAMED = "a node whose name is not known"
"""One that was heard before it was introduced, or was killed before."""
UNKNOWN = "_NODE_NAME_UNKNOWN_"
"""What ROS calls such a node."""


class FromWhom:
    """A subscription's callback that is told who spoke, by whichever executor it is called.

    rclpy's events executor hands message and information over as one tuple, where its others give two arguments; so
    this looks to rclpy like what takes two, and takes either.
    """

    __signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("message", "info")]
    )

    def __init__(self, callback: Callable[[Any, bytes], None]):
        """Args:
        callback: Gets the message and its publisher's id; the id is empty where rclpy knows none, as in Jazzy.
        """
        self._callback = callback

    def __call__(self, *taken: Any) -> None:
        message, info = taken if len(taken) == 2 else taken[0]
        self._callback(message, _source(info))


class Newest:
    """A subscription that empties its queue whenever something comes, and hands over the newest that counts.

    Neither does what others say meanwhile push that out, nor what was said before it make it late. A message that
    does not count takes 15 us. To take it undecoded takes 3; but to decode by itself what counts is slower than in
    the taking, and 0.2 ms of a loop.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any, bytes], None],
        *,
        refuses: Callable[[bytes], bool],
        event_callbacks: SubscriptionEventCallbacks,
    ):
        """Args:
        callback: Gets the message and its publisher's id; see `FromWhom`.
        refuses: Whether a publisher's messages do not count, by its id.
        """
        self._callback, self._refuses = callback, refuses
        self.subscription = node.create_subscription(
            kind,
            topic,
            FromWhom(self._hear),
            # A copy: what parameters override is written into it.
            copy(NEWEST),
            event_callbacks=event_callbacks,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _hear(self, first: Any, source: bytes) -> None:
        newest = None if self._refuses(source) else (first, source)
        for message, source in self._rest():
            if not self._refuses(source):
                newest = message, source
        if newest:
            self._callback(*newest)

    def _rest(self) -> Iterator[tuple[Any, bytes]]:
        """What else is in the queue, with its publishers' ids; no more than fits there, or a flood had no end."""
        kind, handle = self.subscription.msg_type, self.subscription.handle
        with handle:
            for _ in range(NEWEST.depth):
                taken = handle.take_message(kind, False)
                if taken is None:
                    return
                yield taken[0], _source(taken[1])


class OneSpeaker:
    """Hears the first publisher of a topic that said something good, and complains of every other.

    Silence does not make it hear another: who comes forward while a node stalls is not its successor.
    """

    def __init__(self, node: Node, topic: str, complaints: Complaints, *, wary: bool):
        """Args:
        complaints: Get who else speaks, and that the one that was heard is gone.
        wary: Who spoke against the one that was heard is not heard after it either, until `arm`.
        """
        self._node, self._topic, self._complaints = node, topic, complaints
        self._source = OneSource(wary=wary)

    def refuses(self, source: bytes) -> bool:
        """Whether a message of a publisher does not count, whatever it says."""
        refused = self._source.refuses(source)
        if refused and self._source.followed is None:
            self._complain("waits", lambda: self._waits(source))
        elif refused:
            self._complain("two", lambda: self._two(source))
        return refused

    def follow(self, source: bytes) -> None:
        """A publisher said something good."""
        self._source.follow(source)

    def look(self) -> None:
        """Now and then: whether the one that is heard still is there."""
        source = self._source.followed
        if source is None:
            return
        if not source:
            # This rclpy does not say who spoke; all that can be known is that they are several.
            count = self._node.count_publishers(self._node.resolve_topic_name(self._topic))
            if count > 1:
                self._complain("several", lambda: self._several(count))
        elif self._node_of(source) == NOBODY:
            self._source.gone()
            self._complain("gone", lambda: f"the node that published '{self._topic}' is gone")

    def end(self) -> None:
        """The one that was heard said that it ends."""
        self._source.gone()

    def arm(self, *, silent: bool) -> None:
        """A person says that all is well: anybody may begin, unless the one that was heard is still there.

        Who was killed is there for some 20 s more. If it has been silent and one other node has its name, that is
        what was started in its place.

        Args:
            silent: Nothing was heard of it for so long that nobody drives.
        """
        source = self._source.followed
        if source is None or (name := self._node_of(source)) == NOBODY:
            self._source.forget()
        elif silent and name != UNNAMED:
            others = [each for each, node in self._publishers() if node == name and not _same(each, source)]
            if len(others) == 1:
                self._source.hand_over(others[0])

    def forget(self) -> None:
        """Begin again."""
        self._source.forget()

    def _complain(self, cause: str, words: Callable[[], str]) -> None:
        self._complaints.add(f"{self._topic}: {cause}", words)

    def _two(self, source: bytes) -> str:
        followed = self._source.followed
        used = NOBODY if followed is None else self._node_of(followed)
        return f"two nodes publish '{self._topic}': that of {used} is used, that of {self._node_of(source)} is not"

    def _waits(self, source: bytes) -> str:
        return (
            f"'{self._topic}' of {self._node_of(source)} is not used, since it spoke against another. "
            "Call ~/arm to use it"
        )

    def _several(self, count: int) -> str:
        return (
            f"{count} nodes publish '{self._topic}', and this rclpy does not say whose a message is. "
            "Stop all but one"
        )

    def _node_of(self, source: bytes) -> str:
        """Full name of the node that publishes under an id."""
        return next((node for each, node in self._publishers() if _same(each, source)), NOBODY)

    def _publishers(self) -> list[tuple[bytes, str]]:
        """Id and full name of the node, or `UNNAMED`, of each publisher that is in the graph."""
        return [
            (
                bytes(info.endpoint_gid),
                node_of(info),
            )
            for info in self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(self._topic))
        ]


def node_of(info: TopicEndpointInfo) -> str:
    """Full name of the node that has an endpoint, or `UNNAMED`."""
    return UNNAMED if info.node_name == UNKNOWN else f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _source(info: Mapping[str, Any]) -> bytes:
    """A publisher's id, of what rclpy tells with a message."""
    return bytes((info.get("publisher_gid") or {}).get("data", b""))


def _same(one: bytes, other: bytes) -> bool:
    # Some middlewares pad ids with zeros to 24 bytes, and not everywhere.
    return one.rstrip(b"\0") == other.rstrip(b"\0")
