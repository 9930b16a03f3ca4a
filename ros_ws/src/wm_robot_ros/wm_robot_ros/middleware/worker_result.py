"""Worker result: lets a callback of a node await the result of a thread, while the loop of the node continues."""

import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import rclpy
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.service import Service

Result = TypeVar("Result")


async def await_result(job: "Future[Result]", node: Node) -> Result:
    """Await the result of a job in a callback of a node; re-raises the exception of the job."""
    executor = node.executor
    done = rclpy.task.Future(executor=executor)

    def wake_executor(job: "Future[Result]") -> None:
        done.set_result(None)
        # A sleeping executor would not see that the future is done.
        executor.wake()

    job.add_done_callback(wake_executor)
    await done
    return job.result()


def create_async_service(
    node: Node, kind: type, name: str, callback: Callable[[Any, Any], Awaitable[Any]], group: CallbackGroup
) -> Service:
    """Create a service whose callback may await results.

    The events executor of Jazzy does not await the callback of a service, but sends the coroutine as its response. So
    the coroutine is awaited where it is sent.
    """
    service = node.create_service(kind, name, callback, callback_group=group)
    send_response = service.send_response

    async def send_result(response: Awaitable[Any], header: Any) -> None:
        send_response(await response, header)

    def send_when_done(response: Any, header: Any) -> None:
        if inspect.isawaitable(response):
            node.executor.create_task(send_result, response, header)
        else:
            send_response(response, header)

    service.send_response = send_when_done
    return service
