"""Lifecycle nodes: transitions that say what went wrong, and a client that asks for them."""

import functools
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from wm_robot.errors import DeviceError, WmRobotError

Owner = TypeVar("Owner", bound=LifecycleNode)
ANSWER = 0.5
"""Patience for the answer of a node that may not be there, in s."""
Callback = Callable[[Owner, LifecycleState], TransitionCallbackReturn]


def transition(callback: Callback[Owner]) -> Callback[Owner]:
    """Log what a transition raises: rclpy drops it without a word.

    What the user can mend is a failure, after which the node is where it was; all else is an error.
    """

    @functools.wraps(callback)
    def logged(node: Owner, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except WmRobotError as error:
            node.get_logger().error(f"{type(error).__name__}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception:
            node.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return logged


class LifecycleClient:
    """Drives a lifecycle node of another process."""

    def __init__(
        self, node: Node, executor: Executor, name: str, *, while_waiting: Callable[[], None] = lambda: None
    ):
        """Args:
        node: Ours, in `executor`, which nobody else spins while we wait.
        name: Theirs.
        while_waiting: Called now and then; what it raises ends the wait.
        """
        self.name, self._executor, self._while_waiting = name, executor, while_waiting
        self._change = node.create_client(ChangeState, f"{name}/change_state")
        self._get = node.create_client(GetState, f"{name}/get_state")

    @property
    def there(self) -> bool:
        """Whether the node answers; waits a moment if it does not.

        Another of its name that was killed offers its services for some 20 s more, and answers none.
        """
        if not self._get.wait_for_service(timeout_sec=0.1):
            return False
        future = self._get.call_async(GetState.Request())
        self._executor.spin_until_future_complete(future, timeout_sec=ANSWER)
        if not future.done():
            self._get.remove_pending_request(future)
        return bool(future.done())

    def configure(self, timeout: float = 30.0) -> None:
        self._ask(Transition.TRANSITION_CONFIGURE, "configure", timeout)

    def activate(self, timeout: float = 10.0) -> None:
        self._ask(Transition.TRANSITION_ACTIVATE, "activate", timeout)

    def deactivate(self, timeout: float = 10.0) -> None:
        self._ask(Transition.TRANSITION_DEACTIVATE, "deactivate", timeout)

    def cleanup(self, timeout: float = 10.0) -> None:
        self._ask(Transition.TRANSITION_CLEANUP, "clean up", timeout)

    def state(self, timeout: float = 10.0) -> str:
        """`unconfigured`, `inactive`, `active` or `finalized`.

        Raises:
            DeviceError: If the node does not answer.
        """
        return str(self._call(self._get, GetState.Request(), timeout).current_state.label)

    def _ask(self, number: int, verb: str, timeout: float) -> None:
        """Raises:
        DeviceError: If the node does not answer or does not follow.
        """
        request = ChangeState.Request(transition=Transition(id=number))
        if not self._call(self._change, request, timeout).success:
            raise DeviceError(f"node '{self.name}' did not {verb}; it is {self.state()}. Its log says why")

    def _call(self, client: Any, request: Any, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        # In short waits, so that a node which starts meanwhile is found and Ctrl-C is heard.
        while not client.wait_for_service(timeout_sec=0.1):
            self._while_waiting()
            if time.monotonic() > deadline:
                raise DeviceError(f"node '{self.name}' offers no service {client.srv_name}. Is it running?")
        future = client.call_async(request)
        while not future.done() and time.monotonic() < deadline:
            self._executor.spin_until_future_complete(future, timeout_sec=0.1)
            self._while_waiting()
        if not future.done():
            raise DeviceError(f"node '{self.name}' did not answer on {client.srv_name} within {timeout} s")
        return future.result()
