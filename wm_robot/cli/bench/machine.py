"""What the machine of a bench had to do beside it, and what it takes from whoever goes first on it."""

import gc
import os
import time
from pathlib import Path

from wm_robot.safety.guard import go_first

TIMES = Path("/proc/stat")
TURN_MS, AWAKE_MS = 10.0, 8.0
"""How often a bare loop sleeps: one that never does is stopped by Linux itself."""
PAUSE_MS = 0.5
"""Time between two looks at the clock from which on it was kept from its core."""


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


def pauses(seconds: float, priority: int) -> list[float]:
    """How long a loop that only looks at the clock was kept from its core, each time, in ms.

    Nothing else of this machine goes before it: what it is kept by, nobody else is spared.

    Args:
        priority: Among real-time processes, where the system permits it; 0 for none.
    """
    if priority:
        go_first(priority)
    gc.disable()
    found, clock = [], time.perf_counter
    end = clock() + seconds
    while clock() < end:
        last = clock()
        stop = last + AWAKE_MS / 1000
        while last < stop:
            now = clock()
            if now - last > PAUSE_MS / 1000:
                found.append(1000 * (now - last))
            last = now
        time.sleep((TURN_MS - AWAKE_MS) / 1000)
    return found
