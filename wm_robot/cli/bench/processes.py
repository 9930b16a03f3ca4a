"""Parts of a bench side by side: a process for each, since every process has one thread."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
LOOK = 1.0
"""Time between two looks for the bench, in s."""


def in_processes(part: Callable[..., T], jobs: Sequence[tuple[Any, ...]]) -> list[T]:
    """`part(*job)` of every job, in their order; as many at once as there are cores.

    Args:
        part: A function of a module, so that a new process can import it.
    """
    context = multiprocessing.get_context("spawn")
    count = min(len(jobs), os.cpu_count() or 1)
    with ProcessPoolExecutor(
        count,
        mp_context=context,
        initializer=_end_with,
        initargs=(os.getpid(),),
    ) as pool:
        return [future.result() for future in [pool.submit(part, *job) for job in jobs]]


def _end_with(bench: int) -> None:
    """Have this process end when the bench does: one that was killed ends nobody by itself."""

    def watch() -> None:
        while os.getppid() == bench:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
