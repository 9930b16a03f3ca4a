"""Real-time support of the operating system for a control loop. Each function reports why a request failed.

::

    request_real_time  priority above ordinary processes, cores of its own, memory that is not paged out
    Deadlines          absolute, on the monotonic clock: one late period does not move the next
    GarbageCollector   Python's collector runs between two periods, never inside one (`defer_garbage_collection`)
"""

import ctypes
import errno
import gc
import os
import sys
import time
from collections.abc import Callable, Collection
from functools import cache
from typing import NamedTuple

from wm_robot.control.idle_tasks import IdleTask
from wm_robot.errors import ConfigError

LOCK_ALL = 1 | 2 | 4
"""MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT: each page from its first use on, so unused stacks cost nothing."""
CAN_LOCK = 1 << 14
"""CAP_IPC_LOCK: a process with this capability has no limit."""
MONOTONIC, ABSOLUTE = 1, 1
PROGRESS_INTERVAL = 0.005
"""Longest wait between two reports to the guard, in s."""


def request_real_time(priority: int, cores: Collection[int] = ()) -> dict[str, str]:
    """Request real-time priority, locked memory and cores, after all code is loaded and all helpers are started.

    Args:
        priority: Real-time priority, below that of the guard.
        cores: Cores that this process runs on; none: any.

    Returns:
        `priority`, `memory` and, if requested, `cores`, each with the reason of its failure; empty on success.
    """
    had = {"priority": request_priority(priority), "memory": lock_memory()}
    return had | {"cores": restrict_to_cores(cores)} if cores else had


def restrict_to_cores(cores: Collection[int]) -> str:
    """Run only on these cores; return the reason of a failure, or an empty text."""
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)
    except (OSError, ValueError, AttributeError) as error:
        there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "unknown"
        return f"cannot run on cores {sorted(cores)} only ({_error_text(error)}): the permitted cores are {there}"
    return ""


def parse_cores(text: str) -> tuple[int, ...]:
    """Parse numbers of cores, such as `1` or `2,3`.

    Raises:
        ConfigError: If the text has another form.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"cores are '{text}'; they must be numbers, such as 2,3") from error


def lock_memory() -> str:
    """Prevent paging of this process's memory; return the reason of a failure, or an empty text."""
    if sys.platform != "linux":
        return "memory may be paged out: it can be locked on Linux only"
    # With a limit the call would succeed now, and the first allocation beyond the limit would end the process.
    if not _may_lock_all():
        return "memory may be paged out (memlock is limited): the loop may wait for a disk. Set memlock to unlimited"
    if _load_libc().mlockall(LOCK_ALL):
        return f"memory may be paged out ({os.strerror(ctypes.get_errno())}): the loop may wait for a disk"
    return ""


def _may_lock_all() -> bool:
    import resource

    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    with open("/proc/self/status", encoding="ascii") as status:
        granted = next(line.split()[1] for line in status if line.startswith("CapEff"))
    return bool(int(granted, 16) & CAN_LOCK)


def _error_text(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


class ReachedDeadline(NamedTuple):
    """Deadline that was reached."""

    lateness: float
    """Time since the deadline, in s."""
    num_skipped: int
    """Number of further deadlines that have passed and are skipped."""


class Deadlines:
    """Absolute deadlines with a fixed period between them."""

    def __init__(
        self,
        period: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep_until: Callable[[float], None] | None = None,
    ):
        """Set the first deadline one period from now.

        Args:
            period: Time between two deadlines, in s.
            clock: Monotonic clock, in s.
            sleep_until: Sleeps until a time of that clock, in s.
        """
        self._period, self._clock, self._sleep_until = period, clock, sleep_until or sleep_until_time
        self.next = clock() + period

    def time_left(self) -> float:
        """Return the time until the next deadline, in s; negative after it has passed."""
        return self.next - self._clock()

    def wait_for_next(self, report_progress: Callable[[], None] | None = None) -> None:
        """Sleep until the next deadline.

        Args:
            report_progress: Called every few ms, to report to the guard that the process runs.
        """
        while (left := self.time_left()) > 0:
            self._sleep_until(
                self.next if report_progress is None else min(self.next, self.next - left + PROGRESS_INTERVAL)
            )
            if report_progress is not None:
                report_progress()

    def advance_to_next(self) -> ReachedDeadline:
        """Return the delay since the deadline, and advance to the next deadline in the future."""
        late = max(0.0, -self.time_left())
        skipped = int(late / self._period)
        self.next += (1 + skipped) * self._period
        return ReachedDeadline(late, skipped)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def sleep_until_time(wake_time: float) -> None:
    """Sleep until a time of the monotonic clock, in s."""
    sleep = getattr(_load_libc(), "clock_nanosleep", None) if sys.platform == "linux" else None
    if sleep is None:
        time.sleep(max(0.0, wake_time - time.monotonic()))
        return
    seconds, part = divmod(wake_time, 1.0)
    wanted = _Timespec(int(seconds), int(part * 1e9))
    # A signal ends the sleep early; the time to wake up stays the same.
    while sleep(MONOTONIC, ABSOLUTE, ctypes.byref(wanted), None) == errno.EINTR:
        continue


@cache
def _load_libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class GarbageCollector:
    """Garbage collection between two periods, which replaces the automatic collection of Python."""

    def __init__(self, collection: IdleTask, *, interval: int):
        """Args:
        collection: Task that collects.
        interval: Number of opportunities between two collections.
        """
        self._collection, self._interval, self._remaining = collection, interval, interval

    def collect_if_due(self, time_left: float) -> bool:
        """Collect garbage if a collection is due and fits.

        Args:
            time_left: Idle time, in s.

        Returns:
            Whether garbage was collected.
        """
        self._remaining -= 1
        if self._remaining > 0:
            return False
        self._collection.request_run()
        taken = self._collection.try_run(time_left)
        if taken:
            self._remaining = self._interval
        return taken

    def describe_status(self) -> dict[str, float]:
        """Return the status values of the collection."""
        return {
            "collected": self._collection.num_runs,
            "deferred": self._collection.num_deferred,
            "longest_ms": 1e3 * self._collection.longest_run,
        }


def defer_garbage_collection(
    *, interval: int = 50, clock: Callable[[], float] = time.perf_counter
) -> GarbageCollector:
    """Disable automatic collection in this process; from here on only the returned object collects garbage.

    Objects that exist now are frozen and never collected, so that later collections are short.

    Args:
        interval: Number of opportunities between two collections.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    return GarbageCollector(IdleTask(gc.collect, clock=clock), interval=interval)


def request_priority(priority: int) -> str:
    """Set a real-time priority for all current threads; return the reason of a failure, or an empty text.

    Threads and processes that are started later, for example for saving and learning, have the ordinary priority.
    """
    try:
        for thread in os.listdir("/proc/self/task"):
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(int(thread), policy, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        words = (error.strerror or str(error)) if isinstance(error, OSError) else "available on Linux only"
        return (
            f"no real-time priority ({words}): a busy machine delays this process. Permit rtprio {priority}"
        )
    return ""
