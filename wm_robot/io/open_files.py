"""Whether somebody still writes a file: programs that take no lock of ours, seen by what the system knows of them."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

QUIET = 2.0
"""Seconds for which a file must not have changed, before nobody is taken to write it."""
LOOK_EVERY = 0.05
PROCESSES = Path("/proc")


def find_writer(path: Path) -> str | None:
    """A process that has a file open for writing, as `process 42 (ros2)`; None if none is seen.

    Only Linux tells, and only of one's own processes, or to root of all. So None alone is no proof.
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
    """Those of some files that change while they are watched; returns at once if none has changed lately.

    Watches until each was left alone for `QUIET` s. A writer that pauses for longer is not seen.
    """
    before = {path: _state_of(path) for path in paths}
    # By the clock of the file system, the last change may even be to come.
    ages = [time.time() - changed / 1e9 for _, changed in before.values()]
    end = time.monotonic() + max((QUIET - max(age, 0.0) for age in ages), default=0.0)
    growing = set[Path]()
    while time.monotonic() < end and len(growing) < len(before):
        time.sleep(LOOK_EVERY)
        growing |= {path for path, state in before.items() if _state_of(path) != state}
    return growing


def _state_of(path: Path) -> tuple[int, int]:
    """Size and time of the last change; -1 of what is gone."""
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
