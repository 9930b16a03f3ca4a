"""Message reader: takes the messages of a subscription with the ids of their publishers.

rcl reports the publisher of a message in every distribution, but the rclpy of Jazzy does not pass it on. There the
messages are taken from rcl: 9 us more from publisher to callback, for twelve joints.
"""

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import rclpy
from rclpy import subscription as rclpy_subscription
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.waitable import NumberOfEntities, Waitable

MESSAGE_INFO = getattr(getattr(rclpy_subscription, "MessageInfo", None), "__annotations__", {})
"""What rclpy reports of a message; empty in Jazzy, which does not declare it."""
RCL, RCUTILS = "librcl.so", "librcutils.so"
"""Libraries by bare names, which find what rclpy has loaded."""
TAKEN, NOTHING_TAKEN = 0, 401
"""`RCL_RET_OK` and `RCL_RET_SUBSCRIPTION_TAKE_FAILED`."""


def read_publisher_id(info: Mapping[str, Any]) -> bytes:
    """Return the publisher's id from rclpy's information of a message; empty if rclpy does not report it."""
    return bytes((info.get("publisher_gid") or {}).get("data", b""))


class RclpyReader:
    """Takes messages by rclpy; their publishers' ids are empty if rclpy does not report them."""

    def __init__(self, subscription: Subscription):
        self._subscription = subscription

    def take_message(self) -> tuple[Any, bytes] | None:
        """Take the next message with its publisher's id; None if there is none."""
        handle = self._subscription.handle
        with handle:
            taken = handle.take_message(self._subscription.msg_type, False)
        return None if taken is None else (taken[0], read_publisher_id(taken[1]))


class RclReader:
    """Takes messages by rcl, with the ids of their publishers."""

    def __init__(self, subscription: Subscription):
        """Args:
        subscription: Subscription whose messages are taken.

        Raises:
            OSError: If a library of ROS is not found.
            AttributeError: If a library, or rclpy, lacks a function.
        """
        self._subscription = subscription
        # With Python's lock held, as in rclpy: another thread would keep it for up to 5 ms.
        self._take = ctypes.PyDLL(RCL).rcl_take
        self._take.argtypes, self._take.restype = [ctypes.c_void_p] * 4, ctypes.c_int
        self._reset_error = ctypes.PyDLL(RCUTILS).rcutils_reset_error
        self._reset_error.argtypes, self._reset_error.restype = [], None
        self._info = _MessageInfo()
        self._info_at = ctypes.addressof(self._info)
        self._implementation = rclpy.get_rmw_implementation_identifier().encode()
        support = type(subscription.msg_type)
        create = _make_function(support._CREATE_ROS_MESSAGE, ctypes.c_void_p)
        self._convert = _make_function(support._CONVERT_TO_PY, ctypes.py_object, ctypes.c_void_p)
        self._free = _make_function(support._DESTROY_ROS_MESSAGE, None, ctypes.c_void_p)
        self._message = create()

    def take_message(self) -> tuple[Any, bytes] | None:
        """Take the next message with its publisher's id; None if there is none.

        Raises:
            RCLError: If a message cannot be taken.
        """
        handle = self._subscription.handle
        with handle:
            code = self._take(handle.pointer, self._message, self._info_at, None)
        if code == NOTHING_TAKEN:
            return None
        if code != TAKEN:
            self._reset_error()
            raise rclpy._rclpy_pybind11.RCLError(
                f"no message taken from '{self._subscription.topic_name}': {code}"
            )
        # Anything else would mean that the information has another layout.
        is_known = self._info.implementation == self._implementation
        return self._convert(self._message), bytes(self._info.publisher) if is_known else b""

    def __del__(self) -> None:
        if getattr(self, "_message", None):
            self._free(self._message)


class _MessageInfo(ctypes.Structure):
    """`rmw_message_info_t`."""

    _fields_ = (
        ("source_timestamp", ctypes.c_int64),
        ("received_timestamp", ctypes.c_int64),
        ("publication_sequence_number", ctypes.c_uint64),
        ("reception_sequence_number", ctypes.c_uint64),
        ("implementation", ctypes.c_char_p),
        ("publisher", ctypes.c_uint8 * 16),
        ("others", ctypes.c_uint8 * 64),
    )


def _make_function(capsule: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Make a function of the pointer in a capsule; it holds Python's lock."""
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.argtypes, read.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return ctypes.PYFUNCTYPE(result, *arguments)(read(capsule, None))


def make_reader(subscription: Subscription) -> RclpyReader | RclReader:
    """Make a reader that provides publishers' ids, if rclpy or rcl provides them."""
    if "publisher_gid" in MESSAGE_INFO:
        return RclpyReader(subscription)
    try:
        return RclReader(subscription)
    except (OSError, AttributeError):
        return RclpyReader(subscription)


class ReadySubscription(Waitable):
    """Subscription of rclpy whose messages are taken by a callback, and not by the executor."""

    def __init__(self, node: Node, subscription: Subscription, on_ready: Callable[[], None]):
        """Args:
        subscription: Subscription of the node; its own callback is not called.
        on_ready: Takes a message; called until there is none.
        """
        super().__init__(subscription.callback_group)
        self.subscription = subscription
        self._node, self._on_ready = node, on_ready
        self._index = -1
        # The executor would take its messages.
        node._subscriptions.remove(subscription)
        node.add_waitable(self)

    def release_subscription(self) -> None:
        """Return the subscription to the node, which can destroy it then."""
        self._node.remove_waitable(self)
        self._node._subscriptions.append(self.subscription)

    def __enter__(self) -> None:
        self.subscription.handle.__enter__()

    def __exit__(self, *error: object) -> None:
        self.subscription.handle.__exit__(*error)

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities(num_subs=1)

    def add_to_wait_set(self, wait_set: Any) -> None:
        self._index = wait_set.add_subscription(self.subscription.handle)

    def is_ready(self, wait_set: Any) -> bool:
        return bool(wait_set.is_ready("subscription", self._index))

    def take_data(self) -> None:
        self._on_ready()

    async def execute(self, taken: None) -> None:
        """Do nothing more: `take_data` has called the callback."""


def list_subscriptions(node: Node) -> list[Subscription]:
    """Return the subscriptions of a node, also those whose messages are taken by a callback."""
    taken = [each.subscription for each in node.waitables if isinstance(each, ReadySubscription)]
    return [*node.subscriptions, *taken]
