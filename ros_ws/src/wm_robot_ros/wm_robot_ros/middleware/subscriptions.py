"""Subscriptions with the publisher's id, of the newest message only, or locked to one publisher."""

import inspect
from collections.abc import Callable
from copy import copy
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

from wm_robot.streams.source_lock import SourceLock
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot_ros.middleware.message_reader import (
    RclReader,
    ReadySubscription,
    make_reader,
    read_publisher_id,
)
from wm_robot_ros.middleware.qos import NEWEST_QOS

ENDED_NODE = "a node that is gone"
UNNAMED_NODE = "a node with an unknown name"
"""Text for a node that published before its discovery was complete, or was killed before that."""
ROS_UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""Name that ROS gives to such a node."""


class IdentifiedSubscription:
    """Subscription whose callback gets each message with its publisher's id, with every executor."""

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any, bytes], None],
        qos: QoSProfile,
        *,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
    ):
        """Args:
        callback: Gets the message and its publisher's id; the id is empty if neither rclpy nor rcl provides it.
        """
        self._node, self._callback = node, callback
        self.subscription = node.create_subscription(
            kind,
            topic,
            _WithPublisherId(self._on_message),
            # A copy, because overriding parameters are written into the profile.
            copy(qos),
            event_callbacks=event_callbacks,
            qos_overriding_options=qos_overriding_options,
        )
        self._reader = make_reader(self.subscription)
        self._waitable = (
            ReadySubscription(node, self.subscription, self._take_one)
            if isinstance(self._reader, RclReader)
            else None
        )

    def destroy(self) -> None:
        """Destroy the subscription."""
        if self._waitable:
            self._waitable.release_subscription()
        self._node.destroy_subscription(self.subscription)

    def _take_one(self) -> None:
        taken = self._reader.take_message()
        if taken:
            self._on_message(*taken)

    def _on_message(self, message: Any, source: bytes) -> None:
        self._callback(message, source)


class LatestSubscription(IdentifiedSubscription):
    """Subscription that empties its queue at each message, and passes on the newest message that is not rejected.

    So messages of other publishers do not displace that message, and older messages do not delay it. A rejected
    message takes 15 us. Taking it without decoding would take 3 us, but the separate decoding of the accepted message
    would be slower, and take 0.2 ms of a loop.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any, bytes], None],
        *,
        rejects: Callable[[bytes], bool],
        event_callbacks: SubscriptionEventCallbacks,
    ):
        """Args:
        callback: Gets the message and its publisher's id; see `IdentifiedSubscription`.
        rejects: Whether the messages of a publisher are rejected, by its id.
        """
        self._rejects = rejects
        super().__init__(
            node,
            kind,
            topic,
            callback,
            NEWEST_QOS,
            event_callbacks=event_callbacks,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _on_message(self, message: Any, source: bytes) -> None:
        newest = None if self._rejects(source) else (message, source)
        # At most one queue, so that it ends.
        for _ in range(NEWEST_QOS.depth):
            taken = self._reader.take_message()
            if taken is None:
                break
            if not self._rejects(taken[1]):
                newest = taken
        if newest:
            self._callback(*newest)


class _WithPublisherId:
    """Callback of a subscription of rclpy that gets the message and its publisher's id.

    The events executor of rclpy passes message and information as one tuple, the others pass two arguments. So the
    signature has two arguments, and the call accepts both forms.
    """

    __signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("message", "info")]
    )

    def __init__(self, callback: Callable[[Any, bytes], None]):
        self._callback = callback

    def __call__(self, *taken: Any) -> None:
        message, info = taken if len(taken) == 2 else taken[0]
        self._callback(message, read_publisher_id(info))


class PublisherLock:
    """Lock of a topic to the first publisher of a valid message; messages of others are rejected and logged.

    A pause does not release the lock: a node that publishes while the first one stalls is not its successor.
    """

    def __init__(self, node: Node, topic: str, throttled_log: ThrottledLog, *, block_rejected: bool):
        """Args:
        throttled_log: Log of other publishers, and of the end of the accepted one.
        block_rejected: Whether a publisher that was rejected stays rejected until `accept_new_publisher`, even after
            the accepted one has ended.
        """
        self._node, self._topic, self._throttled_log = node, topic, throttled_log
        self._source_lock = SourceLock(block_rejected=block_rejected)

    def rejects_publisher(self, source: bytes) -> bool:
        """Whether a message of a publisher is rejected before it is decoded."""
        refused = self._source_lock.rejects(source)
        if refused and self._source_lock.followed_source is None:
            self._log_cause("waits", lambda: self._describe_blocked(source))
        elif refused:
            self._log_cause("two", lambda: self._describe_two(source))
        return refused

    def lock_to(self, source: bytes) -> None:
        """Lock to the publisher of a valid message, if there is no lock."""
        self._source_lock.lock_to(source)

    def check_publisher(self) -> None:
        """Release the lock if its publisher has ended; call from time to time."""
        source = self._source_lock.followed_source
        if source is None:
            return
        if not source:
            # This rclpy does not provide the publisher of a message; only their number is available.
            count = self._node.count_publishers(self._node.resolve_topic_name(self._topic))
            if count > 1:
                self._log_cause("several", lambda: self._describe_several(count))
        elif self._find_node_name(source) == ENDED_NODE:
            self._source_lock.release()
            self._log_cause("gone", lambda: f"the node that published '{self._topic}' is gone")

    def release_ended(self) -> None:
        """Release the lock, because its publisher reported its end."""
        self._source_lock.release()

    def accept_new_publisher(self, *, silent: bool) -> None:
        """Accept a new publisher at the request of a user, unless the locked one still exists.

        A killed publisher stays in the ROS graph for about 20 s. If it sends nothing and exactly one other node has
        its name, that node is its replacement.

        Args:
            silent: Whether the locked publisher has sent nothing for so long that no process drives.
        """
        source = self._source_lock.followed_source
        if source is None or (name := self._find_node_name(source)) == ENDED_NODE:
            self._source_lock.reset()
        elif silent and name != UNNAMED_NODE:
            others = [
                each
                for each, node in self._list_publishers()
                if node == name and not is_same_id(each, source)
            ]
            if len(others) == 1:
                self._source_lock.switch_to(others[0])

    def reset_lock(self) -> None:
        """Release the lock, and clear the rejected publishers."""
        self._source_lock.reset()

    def _log_cause(self, cause: str, describe: Callable[[], str]) -> None:
        self._throttled_log.report_cause(f"{self._topic}: {cause}", describe)

    def _describe_two(self, source: bytes) -> str:
        followed = self._source_lock.followed_source
        used = ENDED_NODE if followed is None else self._find_node_name(followed)
        return (
            f"two nodes publish '{self._topic}': that of {used} is used, "
            f"that of {self._find_node_name(source)} is not"
        )

    def _describe_blocked(self, source: bytes) -> str:
        return (
            f"'{self._topic}' of {self._find_node_name(source)} is not used, because it published against another "
            "node. Call ~/arm to use it"
        )

    def _describe_several(self, count: int) -> str:
        return (
            f"{count} nodes publish '{self._topic}', and this rclpy does not provide the publisher of a message. "
            "Stop all but one"
        )

    def _find_node_name(self, source: bytes) -> str:
        """Return the full name of the node of a publisher id."""
        return next((node for each, node in self._list_publishers() if is_same_id(each, source)), ENDED_NODE)

    def _list_publishers(self) -> list[tuple[bytes, str]]:
        """Return id and full name of the node, or `UNNAMED_NODE`, of each publisher in the ROS graph."""
        return [
            (
                bytes(info.endpoint_gid),
                format_node_name(info),
            )
            for info in self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(self._topic))
        ]


def format_node_name(info: TopicEndpointInfo) -> str:
    """Return the full name of the node of an endpoint, or `UNNAMED_NODE`."""
    return (
        UNNAMED_NODE
        if info.node_name == ROS_UNKNOWN_NODE
        else f"{info.node_namespace.rstrip('/')}/{info.node_name}"
    )


def is_same_id(one: bytes, other: bytes) -> bool:
    """Whether two ids are of one publisher."""
    # Some middlewares pad ids with zeros to 24 bytes, but not in every function.
    return one.rstrip(b"\0") == other.rstrip(b"\0")
