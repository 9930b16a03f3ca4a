"""Detection of programs that write a file without a lock, by `/proc` and by the time of the last change."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

QUIET = 2.0
"""Seconds without a change after which a file counts as not being written."""
LOOK_EVERY = 0.05
PROCESSES = Path("/proc")


def find_writer(path: Path) -> str | None:
    """Return a process that has a file open for writing, as `process 42 (ros2)`; None if none is found.

    This works on Linux only, for processes of the same user, or for root. So None alone is no proof.
    """
    wanted = os.stat(path)
    for process in _listed(PROCESSES):
        if not process.name.isdigit():
            continue
        for handle in _listed(process / "fd"):
            try:
                if not os.readlink(handle).startswith("/") or not os.path.samestat(os.stat(handle), wanted):
                    continue
                about = (process / "fdinfo" / handle.name).read_text()
                flags = next(line.split()[1] for line in about.splitlines() if line.startswith("flags:"))
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return f"process {process.name} ({(process / 'comm').read_text().strip()})"
            except OSError:
                # It was closed, its process ended, or it is another user's.
                continue
    return None


def find_growing(paths: Iterable[Path]) -> set[Path]:
    """Return the files that change while they are watched; immediately if none has changed recently.

    Each is watched until it is unchanged for `QUIET` s. A writer that pauses for longer is not found.
    """
    before = {path: _state_of(path) for path in paths}
    # The clock of the file system may be ahead of this one.
    ages = [time.time() - changed / 1e9 for _, changed in before.values()]
    end = time.monotonic() + max((QUIET - max(age, 0.0) for age in ages), default=0.0)
    growing = set[Path]()
    while time.monotonic() < end and len(growing) < len(before):
        time.sleep(LOOK_EVERY)
        growing |= {path for path, state in before.items() if _state_of(path) != state}
    return growing


def _state_of(path: Path) -> tuple[int, int]:
    """Return size and time of the last change; -1 for a file that does not exist."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return -1, -1
    return about.st_size, about.st_mtime_ns


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
