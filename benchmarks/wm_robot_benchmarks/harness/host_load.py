"""What the machine of a bench had to do beside it, and what it takes from whoever goes first on it."""

import gc
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wm_robot.control.realtime import go_first

TIMES = Path("/proc/stat")
TURN_MS, AWAKE_MS = 10.0, 8.0
"""How often a bare loop sleeps: one that never does is stopped by Linux itself."""
PAUSE_MS = 0.5
"""Time between two looks at the clock from which on it was kept from its core."""
QUOTA_MS, ALIKE_MS = 100.0, 4.0
"""From one share of a quota of core time to the next, in Linux and whoever uses it as a host, and how near to such a
moment a pause ends that it ended."""


class Pause(NamedTuple):
    """A moment in which a loop was kept from its core."""

    end: float
    """In s of a clock of its own."""
    ms: float


def load() -> float:
    """Processes that wanted a core, for each core, in the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def stolen() -> float:
    """Core time that this machine's host has kept for others since it started, in s; 0 where nobody tells.

    A virtual machine that is stopped for a moment misses deadlines whatever runs on it.
    """
    try:
        total = TIMES.read_text().split("\n", 1)[0].split()
        return int(total[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def pauses(seconds: float, priority: int) -> list[Pause]:
    """When and how long a loop that only looks at the clock was kept from its core.

    Nothing else of this machine goes before it: what it is kept by, nobody else is spared.

    Args:
        priority: Among real-time processes, where the system permits it; 0 for none.
    """
    if priority:
        go_first(priority)
    gc.disable()
    found, clock = list[Pause](), time.perf_counter
    end = clock() + seconds
    while clock() < end:
        last = clock()
        stop = last + AWAKE_MS / 1000
        while last < stop:
            now = clock()
            if now - last > PAUSE_MS / 1000:
                found.append(Pause(now, 1000 * (now - last)))
            last = now
        time.sleep((TURN_MS - AWAKE_MS) / 1000)
    return found


def of_quota(found: Sequence[Pause]) -> int:
    """How many pauses end at one moment of a quota's period, which is the same for all: a quota's end together.

    Of pauses that know nothing of each other one or two do, and hardly ever most.
    """
    ends = [1000 * pause.end % QUOTA_MS for pause in found]
    return max((sum((end - first) % QUOTA_MS <= ALIKE_MS for end in ends) for first in ends), default=0)
