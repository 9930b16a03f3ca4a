"""Worker result: lets a callback of a node await the result of a thread, while the loop of the node continues."""

from concurrent.futures import Future
from typing import TypeVar

import rclpy
from rclpy.node import Node

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
