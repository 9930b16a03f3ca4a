"""Worker thread: runs jobs on a store one after another, while the control loop continues."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Result = TypeVar("Result")


class WorkerThread:
    """Thread with a queue of jobs. It starts with the first job, after a process has set its real-time priority."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)
        self._newest_job: Future[Any] | None = None

    def submit_job(self, work: Callable[[], Result]) -> "Future[Result]":
        """Add a job to the queue."""
        job = self._executor.submit(work)
        self._newest_job = job
        return job

    def wait_until_idle(self) -> None:
        """Wait until every job in the queue has succeeded or failed."""
        if self._newest_job is not None:
            wait([self._newest_job])
