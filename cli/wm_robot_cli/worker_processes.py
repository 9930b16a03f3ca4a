"""Worker processes: run jobs in parallel, each in a process with one thread."""

import multiprocessing
import os
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wm_robot.progress import Progress

T = TypeVar("T")
LOOK = 1.0
"""Time between two checks for the parent process, and between two progress reports, in s."""
FRACTION = struct.Struct("d")
PROGRESS_RESOLUTION = 1_000_000
"""Resolution in which fractions are reported."""


def in_processes(
    part: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    progress: Progress | None = None,
    *,
    count: int | None = None,
) -> list[T]:
    """Run `part(*job)` for every job in parallel, one per core; return the results in the order of the jobs.

    Ctrl-C, or an error in one job, ends all others immediately.

    Args:
        part: Function of a module, so that a new process can import it. With `progress` it gets its own progress
            function, under that name.
        progress: Receives the progress of all jobs; each has the same weight.
        count: Number of processes; one for each core by default.
    """
    context = multiprocessing.get_context("spawn")
    count = min(len(jobs), count or os.cpu_count() or 1)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=end_with_parent, initargs=(os.getpid(),)
    )
    with tempfile.TemporaryDirectory() as folder, pool:
        shares = [_JobProgress(Path(folder) / str(number)) for number in range(len(jobs))]
        try:
            # Processes are started here. Only this one receives Ctrl-C: it ends them.
            with _block_interrupts():
                futures = [
                    pool.submit(part, *job, **({} if progress is None else {"progress": share}))
                    for job, share in zip(jobs, shares, strict=True)
                ]
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=LOOK, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                if progress is not None:
                    left = sum(
                        1 - share.fraction
                        for share, job in zip(shares, futures, strict=True)
                        if not job.done()
                    )
                    progress(round(PROGRESS_RESOLUTION * (1 - left / len(jobs))), PROGRESS_RESOLUTION)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
    return [future.result() for future in futures]


@dataclass(frozen=True)
class _JobProgress:
    """Progress of one job: a file that its process writes and the parent reads."""

    path: Path

    def __call__(self, done: int, total: int) -> None:
        self.path.write_bytes(FRACTION.pack(done / total if total else 0.0))

    @property
    def fraction(self) -> float:
        """Completed fraction, from 0 to 1; 0 before the first report."""
        try:
            return min(1.0, FRACTION.unpack(self.path.read_bytes())[0])
        except (OSError, struct.error):
            # It does not exist yet, or is being written.
            return 0.0


def end_with_parent(parent: int) -> None:
    """End this process when its parent ends: a killed one does not end its workers by itself.

    Args:
        parent: Process id of the parent.
    """

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()


@contextmanager
def _block_interrupts() -> Iterator[None]:
    """Block Ctrl-C: processes started in this context never receive it, and a pending one is raised at the end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
