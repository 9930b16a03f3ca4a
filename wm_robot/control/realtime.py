"""What a control loop needs of its system to be on time: each is had, or it is said why not.

::

    go_real_time  before all that is not real time, on cores of its own, with its memory kept in place
    Deadlines     absolute, on the monotonic clock: one late period does not move the next
    Garbage       Python's collector runs between two periods, and never inside one (`take_over_collection`)
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
"""What is mapped and what will be, each page from its first use on: a thread's unused stack costs nothing."""
CAN_LOCK = 1 << 14
"""CAP_IPC_LOCK: whoever has it is held to no limit."""
MONOTONIC, ABSOLUTE = 1, 1
SLICE = 0.005
"""Longest wait without a sign of life, in s."""


def go_real_time(priority: int, cores: Collection[int] = ()) -> dict[str, str]:
    """Ask for all that keeps a loop on time, once everything is loaded and every helper is started.

    Args:
        priority: Among real-time processes; below the guard's.
        cores: Those that this process runs on; none: any.

    Returns:
        `priority`, `memory` and, if asked for, `cores`, each with why it was not had; empty if it was.
    """
    had = {"priority": go_first(priority), "memory": lock_memory()}
    return had | {"cores": keep_to(cores)} if cores else had


def keep_to(cores: Collection[int]) -> str:
    """Run on these cores alone; why that is not possible, or nothing."""
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)
    except (OSError, ValueError, AttributeError) as error:
        there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "unknown"
        return f"not on cores {sorted(cores)} alone ({_words(error)}): those that may be used are {there}"
    return ""


def cores_of(text: str) -> tuple[int, ...]:
    """Cores by number, as `1` or `2,3`.

    Raises:
        ConfigError: If it is something else.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"cores are '{text}'; they must be numbers, as 2,3") from error


def lock_memory() -> str:
    """Keep the memory of this process from being paged out; why that is not permitted, or nothing."""
    if sys.platform != "linux":
        return "memory may be paged out: only Linux lets it be locked here"
    # With a limit it would succeed now, and the first allocation beyond it would end the process.
    if not _may_lock_all():
        return "memory may be paged out (memlock is limited): the loop may wait for a disk. Set memlock unlimited"
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
    """A deadline that has come."""

    late: float
    """Since it came, in s."""
    skipped: int
    """Further deadlines that have passed; nobody makes up for them."""


class Deadlines:
    """Absolute deadlines, a period apart."""

    def __init__(
        self,
        period: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep_until: Callable[[float], None] | None = None,
    ):
        """The first is a period from now.

        Args:
            period: In s.
            clock: In s; nobody may set it.
            sleep_until: Wait for a moment of that clock.
        """
        self._period, self._clock, self._sleep_until = period, clock, sleep_until or until
        self.next = clock() + period

    def left(self) -> float:
        """Until the next, in s; below 0 once it has passed."""
        return self.next - self._clock()

    def wait(self, alive: Callable[[], None] | None = None) -> None:
        """Sleep until the next.

        Args:
            alive: Called every few ms: the guard hears it.
        """
        while (left := self.left()) > 0:
            self._sleep_until(self.next if alive is None else min(self.next, self.next - left + SLICE))
            if alive is not None:
                alive()

    def reached(self) -> Reached:
        """Say how late it is, and go on to the next that is still to come."""
        late = max(0.0, -self.left())
        skipped = int(late / self._period)
        self.next += (1 + skipped) * self._period
        return Reached(late, skipped)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def until(moment: float) -> None:
    """Sleep until a moment of the monotonic clock, in s."""
    sleep = getattr(_libc(), "clock_nanosleep", None) if sys.platform == "linux" else None
    if sleep is None:
        time.sleep(max(0.0, moment - time.monotonic()))
        return
    seconds, part = divmod(moment, 1.0)
    wanted = _Timespec(int(seconds), int(part * 1e9))
    # A signal ends it early; the moment stays the same.
    while sleep(MONOTONIC, ABSOLUTE, ctypes.byref(wanted), None) == errno.EINTR:
        continue


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Garbage:
    """Garbage collection between two periods, in place of Python's own."""

    def __init__(self, collection: Chore, *, every: int):
        """Args:
        collection: The task that collects.
        every: Chances from one collection to the next.
        """
        self._collection, self._every, self._due = collection, every, every

    def tidy(self, left: float) -> bool:
        """A chance to collect.

        Args:
            left: Time that nobody else needs, in s.

        Returns:
            Whether it was taken.
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
        """What is to be told of it."""
        return {
            "collected": self._collection.done,
            "put_off": self._collection.put_off,
            "longest_ms": 1e3 * self._collection.longest,
        }


def take_over_collection(*, every: int = 50, clock: Callable[[], float] = time.perf_counter) -> Garbage:
    """Switch Python's collector off in this process; from here on only the result's `tidy` collects.

    What is there now is never collected: it is frozen, so that later collections are short.

    Args:
        every: Chances from one collection to the next.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    return Garbage(Chore(gc.collect, clock=clock), every=every)


def go_first(priority: int) -> str:
    """Go before all that is not real time, with every thread there is now; why that is not permitted, or nothing.

    Threads and processes that are started later, as for saving and learning, are ordinary ones.
    """
    try:
        for thread in os.listdir("/proc/self/task"):
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(int(thread), policy, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        words = (error.strerror or str(error)) if isinstance(error, OSError) else "only Linux has it"
        return f"no real-time priority ({words}): a busy machine makes it late. Permit rtprio {priority}"
    return ""
