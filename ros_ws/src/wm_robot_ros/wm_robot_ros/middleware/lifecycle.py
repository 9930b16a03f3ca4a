"""Lifecycle support: transitions that log their errors, and a client that requests transitions."""

import functools
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from wm_robot.errors import DeviceError, WmRobotError

Owner = TypeVar("Owner", bound=LifecycleNode)
ANSWER_TIMEOUT = 0.5
"""Longest wait for the answer of a node that may be absent, in s."""
Callback = Callable[[Owner, LifecycleState], TransitionCallbackReturn]


def log_transition_errors(callback: Callback[Owner]) -> Callback[Owner]:
    """Decorate a transition to log its exceptions, which rclpy drops silently.

    An error that the user can fix becomes a failure, which keeps the state of the node. All others become an error.
    """

    @functools.wraps(callback)
    def run_transition(node: Owner, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except WmRobotError as error:
            node.get_logger().error(f"{type(error).__name__}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception:
            node.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return run_transition


def refuse_invalid_transitions(node: LifecycleNode) -> None:
    """Make a node answer the request of a transition that its state does not allow, with a failure.

    The rclpy of Jazzy raises an error instead (rclpy issue 1209), and its client waits for ever.
    """
    service = node._service_change_state
    change_state = service.callback

    def change_or_refuse(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except rclpy._rclpy_pybind11.RCLError as error:
            node.get_logger().error(f"{error}")
            response.success = False
            return response

    service.callback = change_or_refuse


class LifecycleClient:
    """Client that requests the transitions of a lifecycle node in another process."""

    def __init__(
        self, node: Node, executor: Executor, name: str, *, while_waiting: Callable[[], None] = lambda: None
    ):
        """Args:
        node: Node of this client.
        executor: Executor of that node; no other code may spin it during a wait.
        name: Name of the lifecycle node.
        while_waiting: Called repeatedly during a wait; an exception ends the wait.
        """
        self.name, self._executor, self._while_waiting = name, executor, while_waiting
        self._change = node.create_client(ChangeState, f"{name}/change_state")
        self._get = node.create_client(GetState, f"{name}/get_state")

    @property
    def is_available(self) -> bool:
        """Whether the node answers; waits for a short time if it does not.

        A killed node still offers its services for about 20 s, without answering.
        """
        if not self._get.wait_for_service(timeout_sec=0.1):
            return False
        future = self._get.call_async(GetState.Request())
        self._executor.spin_until_future_complete(future, timeout_sec=ANSWER_TIMEOUT)
        if not future.done():
            self._get.remove_pending_request(future)
        return bool(future.done())

    def configure_node(self, timeout: float = 30.0) -> None:
        self._request_transition(Transition.TRANSITION_CONFIGURE, "configure", timeout)

    def activate_node(self, timeout: float = 10.0) -> None:
        self._request_transition(Transition.TRANSITION_ACTIVATE, "activate", timeout)

    def deactivate_node(self, timeout: float = 10.0) -> None:
        self._request_transition(Transition.TRANSITION_DEACTIVATE, "deactivate", timeout)

    def clean_up_node(self, timeout: float = 10.0) -> None:
        self._request_transition(Transition.TRANSITION_CLEANUP, "clean up", timeout)

    def read_state(self, timeout: float = 10.0) -> str:
        """Return the lifecycle state: `unconfigured`, `inactive`, `active` or `finalized`.

        Raises:
            DeviceError: If the node does not answer.
        """
        return str(self._call_service(self._get, GetState.Request(), timeout).current_state.label)

    def _request_transition(self, number: int, verb: str, timeout: float) -> None:
        """Request a transition.

        Raises:
            DeviceError: If the node does not answer, or the transition fails.
        """
        request = ChangeState.Request(transition=Transition(id=number))
        if not self._call_service(self._change, request, timeout).success:
            raise DeviceError(
                f"node '{self.name}' did not {verb}; it is {self.read_state()}. See its log for the reason"
            )

    def _call_service(self, client: Any, request: Any, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        # In short waits, so that Ctrl-C and a node that starts during the wait are noticed.
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
