"""Detection of programs that write a file without a lock, by `/proc` and by the time of the last change."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

QUIET_TIME = 2.0
"""Seconds without a change after which a file counts as not being written."""
POLL_PERIOD = 0.05
PROC_FOLDER = Path("/proc")


def find_writer(path: Path) -> str | None:
    """Return a process that has a file open for writing, as `process 42 (ros2)`; None if none is found.

    This works on Linux only, for processes of the same user, or for root. So None alone is no proof.
    """
    wanted = os.stat(path)
    for process in _list_folder(PROC_FOLDER):
        if not process.name.isdigit():
            continue
        for handle in _list_folder(process / "fd"):
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


def find_growing_files(paths: Iterable[Path]) -> set[Path]:
    """Return the files that change while they are watched; immediately if none has changed recently.

    Each is watched until it is unchanged for `QUIET_TIME` s. A writer that pauses for longer is not found.
    """
    before = {path: _size_and_time(path) for path in paths}
    # The clock of the file system may be ahead of this one.
    ages = [time.time() - changed / 1e9 for _, changed in before.values()]
    end = time.monotonic() + max((QUIET_TIME - max(age, 0.0) for age in ages), default=0.0)
    growing = set[Path]()
    while time.monotonic() < end and len(growing) < len(before):
        time.sleep(POLL_PERIOD)
        growing |= {path for path, state in before.items() if _size_and_time(path) != state}
    return growing


def _size_and_time(path: Path) -> tuple[int, int]:
    """Return size and time of the last change; -1 for a file that does not exist."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return -1, -1
    return about.st_size, about.st_mtime_ns


def _list_folder(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
