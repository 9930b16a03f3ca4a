"""Worker result: lets a callback of a node await what a thread computes, while the node's loop goes on."""

from concurrent.futures import Future
from typing import TypeVar

import rclpy
from rclpy.node import Node

Result = TypeVar("Result")


async def result_of(job: "Future[Result]", node: Node) -> Result:
    """Result of a job, awaited in a callback of a node; raises what the job raised."""
    executor = node.executor
    done = rclpy.task.Future(executor=executor)

    def finish(job: "Future[Result]") -> None:
        done.set_result(None)
        # A sleeping executor would not see that the future is done.
        executor.wake()

    job.add_done_callback(finish)
    await done
    return job.result()
