"""Heartbeat: a page of shared memory between control process, guard and plant.

It holds aligned words of eight bytes, so that none is ever read half-written. Each word has one writer, except for
the emergency: the guard sets it and a person clears it. Times are of the monotonic clock, which all processes of a
machine share.
"""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from wm_robot.errors import DeviceError

PAGE_SIZE = 4096
PAGE_VERSION = 0x5745_4142_4F52_0001
"""First word: file type and version."""
_MARK, _PID, _COUNT, _PROGRESS, _GUARD, _EMERGENCY = range(6)
_REASON, _LONGEST = 64, 256
"""Offset and largest size of the reason's text, in bytes."""
MAX_GUARD_SILENCE = 0.03
"""Longest time without a check by the guard, in s: a plant with a guard does not move without it."""


class Heartbeat:
    """Shared page, mapped from a file; on `/dev/shm` it is never written to a disk."""

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.monotonic_ns):
        """Map the page; create the file if it does not exist.

        Args:
            clock: In ns, the same for all processes.

        Raises:
            DeviceError: If the file is not a heartbeat of this version.
        """
        self.path, self._clock = path, clock
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size not in (0, PAGE_SIZE):
                raise DeviceError(
                    f"{path} is no heartbeat: its size is not {PAGE_SIZE} bytes. Use another file"
                )
            os.ftruncate(handle, PAGE_SIZE)
            self._page = mmap.mmap(handle, PAGE_SIZE)
        finally:
            os.close(handle)
        self._words = memoryview(self._page).cast("Q")
        if self._words[_MARK] not in (0, PAGE_VERSION):
            raise DeviceError(
                f"{path} is a heartbeat of another version. Remove it and restart all processes"
            )
        self._words[_MARK] = PAGE_VERSION

    # What the control process writes

    def beat(self) -> None:
        """Record that this process drives the plant and its loop made progress. Only the loop itself calls it."""
        self._words[_COUNT] = (self._words[_COUNT] + 1) & (2**64 - 1)
        self._words[_PROGRESS] = self._clock()
        # At every beat: a process that counted as dead and returns is monitored again.
        self._words[_PID] = os.getpid()

    def deregister_driver(self) -> None:
        """Record that no process drives the plant any more: a regular end, which is no emergency."""
        self._words[_PID] = 0

    # What the guard writes

    def record_guard_check(self) -> None:
        """Record that the guard is running."""
        self._words[_GUARD] = self._clock()

    def stop_plant(self, reason: str) -> None:
        """Stop the plant; the first reason is kept."""
        if not self._words[_EMERGENCY]:
            text = reason.encode()[: _LONGEST - 1]
            self._page[_REASON : _REASON + _LONGEST] = text.ljust(_LONGEST, b"\0")
            self._words[_EMERGENCY] = self._clock()

    # What the plant reads, and a person writes

    @property
    def driver(self) -> int:
        """Id of the process that drives the plant; 0 for none."""
        return int(self._words[_PID])

    @property
    def num_beats(self) -> int:
        """Number of beats of the loop."""
        return int(self._words[_COUNT])

    @property
    def last_beat(self) -> int:
        """Time of the last beat of the loop, in ns."""
        return int(self._words[_PROGRESS])

    def compute_silence(self) -> float:
        """Compute the time since the last beat of the loop, in s."""
        return max(0, self._clock() - self.last_beat) / 1e9

    def stopped(self) -> str:
        """Return why the plant must stand still; empty if it need not."""
        if self._words[_EMERGENCY]:
            return self._page[_REASON : _REASON + _LONGEST].rstrip(b"\0").decode(errors="replace")
        away = (self._clock() - int(self._words[_GUARD])) / 1e9
        return f"the guard does not run: no check for {1e3 * away:.0f} ms" if away > MAX_GUARD_SILENCE else ""

    def release(self) -> None:
        """Clear the emergency: a person's decision, never that of the control process."""
        self._words[_EMERGENCY] = 0

    def close(self) -> None:
        self._words.release()
        self._page.close()
