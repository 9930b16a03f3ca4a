"""Parts of a bench side by side: a process for each, since every process has one thread."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def in_processes(part: Callable[..., T], jobs: Sequence[tuple[Any, ...]]) -> list[T]:
    """`part(*job)` of every job, in their order; as many at once as there are cores.

    Args:
        part: A function of a module, so that a new process can import it.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1), mp_context=context) as pool:
        return [future.result() for future in [pool.submit(part, *job) for job in jobs]]
