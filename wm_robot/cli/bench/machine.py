"""What the machine of a bench had to do beside it."""

import os
from pathlib import Path

TIMES = Path("/proc/stat")


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
