"""Host load: other load of the machine during a bench, and the pauses of a process of highest priority."""

import gc
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wm_robot.control.realtime import request_priority

TIMES = Path("/proc/stat")
LOOP_PERIOD_MS, BUSY_MS = 10.0, 8.0
"""Period and busy time of the bare loop: Linux itself stops a real-time loop that never sleeps."""
PAUSE_MS = 0.5
"""Smallest time between two clock readings that counts as a pause."""
QUOTA_MS, PHASE_TOLERANCE_MS = 100.0, 4.0
"""Period of the CPU quota of Linux, also as a host of virtual machines, and the tolerance of its end: a pause that
ends within it counts as a pause of the quota."""


class Pause(NamedTuple):
    """Pause of a loop that did not get its core."""

    end: float
    """End of the pause, in s of its own clock."""
    duration_ms: float


def read_load() -> float:
    """Return the load per core in the last minute: processes that needed a core."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def read_stolen_time() -> float:
    """Return the core time that the host took from this machine since its start, in s; 0 where it is not reported.

    A virtual machine that is paused by its host misses deadlines, independent of its own processes.
    """
    try:
        total = TIMES.read_text().split("\n", 1)[0].split()
        return int(total[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def measure_pauses(seconds: float, priority: int) -> list[Pause]:
    """Measure the pauses of a loop that only reads the clock.

    It has the highest priority of this machine: its pauses delay every other process too.

    Args:
        priority: Real-time priority, where the system permits it; 0 for none.
    """
    if priority:
        request_priority(priority)
    gc.disable()
    found, clock = list[Pause](), time.perf_counter
    end = clock() + seconds
    while clock() < end:
        last = clock()
        stop = last + BUSY_MS / 1000
        while last < stop:
            now = clock()
            if now - last > PAUSE_MS / 1000:
                found.append(Pause(now, 1000 * (now - last)))
            last = now
        time.sleep((LOOP_PERIOD_MS - BUSY_MS) / 1000)
    return found


def count_quota_pauses(pauses: Sequence[Pause]) -> int:
    """Count the pauses that end at the same phase of the quota's period: those of a quota end together.

    Of independent pauses only one or two coincide, and almost never most of them.
    """
    ends = [1000 * pause.end % QUOTA_MS for pause in pauses]
    return max(
        (sum((end - first) % QUOTA_MS <= PHASE_TOLERANCE_MS for end in ends) for first in ends), default=0
    )
