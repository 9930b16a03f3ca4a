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

from wm_robot.control.idle_tasks import Chore
from wm_robot.errors import ConfigError

LOCK_ALL = 1 | 2 | 4
"""MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT: each page from its first use on, so unused stacks cost nothing."""
CAN_LOCK = 1 << 14
"""CAP_IPC_LOCK: a process with this capability has no limit."""
MONOTONIC, ABSOLUTE = 1, 1
SLICE = 0.005
"""Longest wait between two reports to the guard, in s."""


def go_real_time(priority: int, cores: Collection[int] = ()) -> dict[str, str]:
    """Request real-time priority, locked memory and cores, after all code is loaded and all helpers are started.

    Args:
        priority: Real-time priority, below that of the guard.
        cores: Cores that this process runs on; none: any.

    Returns:
        `priority`, `memory` and, if requested, `cores`, each with the reason of its failure; empty on success.
    """
    had = {"priority": go_first(priority), "memory": lock_memory()}
    return had | {"cores": keep_to(cores)} if cores else had


def keep_to(cores: Collection[int]) -> str:
    """Run only on these cores; return the reason of a failure, or an empty text."""
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)
    except (OSError, ValueError, AttributeError) as error:
        there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "unknown"
        return f"cannot run on cores {sorted(cores)} only ({_words(error)}): the permitted cores are {there}"
    return ""


def cores_of(text: str) -> tuple[int, ...]:
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
    if _libc().mlockall(LOCK_ALL):
        return f"memory may be paged out ({os.strerror(ctypes.get_errno())}): the loop may wait for a disk"
    return ""


def _may_lock_all() -> bool:
    import resource

    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    with open("/proc/self/status", encoding="ascii") as status:
        granted = next(line.split()[1] for line in status if line.startswith("CapEff"))
    return bool(int(granted, 16) & CAN_LOCK)


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


class Reached(NamedTuple):
    """Deadline that was reached."""

    late: float
    """Time since the deadline, in s."""
    skipped: int
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
        self._period, self._clock, self._sleep_until = period, clock, sleep_until or until
        self.next = clock() + period

    def left(self) -> float:
        """Return the time until the next deadline, in s; negative after it has passed."""
        return self.next - self._clock()

    def wait(self, alive: Callable[[], None] | None = None) -> None:
        """Sleep until the next deadline.

        Args:
            report_progress: Called every few ms, to report to the guard that the process runs.
        """
        while (left := self.left()) > 0:
            self._sleep_until(self.next if alive is None else min(self.next, self.next - left + SLICE))
            if alive is not None:
                alive()

    def reached(self) -> Reached:
        """Return the delay since the deadline, and advance to the next deadline in the future."""
        late = max(0.0, -self.left())
        skipped = int(late / self._period)
        self.next += (1 + skipped) * self._period
        return Reached(late, skipped)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def until(moment: float) -> None:
    """Sleep until a time of the monotonic clock, in s."""
    sleep = getattr(_libc(), "clock_nanosleep", None) if sys.platform == "linux" else None
    if sleep is None:
        time.sleep(max(0.0, moment - time.monotonic()))
        return
    seconds, part = divmod(moment, 1.0)
    wanted = _Timespec(int(seconds), int(part * 1e9))
    # A signal ends the sleep early; the time to wake up stays the same.
    while sleep(MONOTONIC, ABSOLUTE, ctypes.byref(wanted), None) == errno.EINTR:
        continue


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Garbage:
    """Garbage collection between two periods, which replaces the automatic collection of Python."""

    def __init__(self, collection: Chore, *, every: int):
        """Args:
        collection: Task that collects.
        every: Number of opportunities between two collections.
        """
        self._collection, self._every, self._due = collection, every, every

    def tidy(self, left: float) -> bool:
        """Collect garbage if a collection is due and fits.

        Args:
            time_left: Idle time, in s.

        Returns:
            Whether garbage was collected.
        """
        self._due -= 1
        if self._due > 0:
            return False
        self._collection.ask()
        taken = self._collection.chance(left)
        if taken:
            self._due = self._every
        return taken

    def status(self) -> dict[str, float]:
        """Return the status values of the collection."""
        return {
            "collected": self._collection.done,
            "put_off": self._collection.put_off,
            "longest_ms": 1e3 * self._collection.longest,
        }


def take_over_collection(*, every: int = 50, clock: Callable[[], float] = time.perf_counter) -> Garbage:
    """Disable automatic collection in this process; from here on only the returned object collects garbage.

    Objects that exist now are frozen and never collected, so that later collections are short.

    Args:
        every: Number of opportunities between two collections.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    return Garbage(Chore(gc.collect, clock=clock), every=every)


def go_first(priority: int) -> str:
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
