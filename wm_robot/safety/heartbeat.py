"""A page of shared memory in which control, guard and plant see each other.

Words of eight bytes, aligned, so that none is ever read half-written; each has one writer, but for the emergency,
which the guard raises and a person lowers. Times are of the monotonic clock, which all processes of a machine share.
"""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from wm_robot.errors import DeviceError

SIZE = 4096
MARK = 0x5745_4142_4F52_0001
"""First word: what the page is, and its version."""
_MARK, _PID, _COUNT, _PROGRESS, _GUARD, _EMERGENCY = range(6)
_REASON, _LONGEST = 64, 256
"""Where the reason's text begins, and how long it may be, in bytes."""
GUARD_GONE = 0.03
"""Longest time without a round of the guard, in s: a plant that has a guard does nothing without it."""


class Heartbeat:
    """One page, mapped from a file; on `/dev/shm` it never touches a disk."""

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.monotonic_ns):
        """Map the page, and make it if it is not there.

        Args:
            clock: In ns, the same for all processes.

        Raises:
            DeviceError: If the file is something else.
        """
        self.path, self._clock = path, clock
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size not in (0, SIZE):
                raise DeviceError(
                    f"{path} is no heartbeat: it has another size than {SIZE}. Name another file"
                )
            os.ftruncate(handle, SIZE)
            self._page = mmap.mmap(handle, SIZE)
        finally:
            os.close(handle)
        self._words = memoryview(self._page).cast("Q")
        if self._words[_MARK] not in (0, MARK):
            raise DeviceError(f"{path} is a heartbeat of another version. Remove it and start all again")
        self._words[_MARK] = MARK

    # What the control process writes

    def beat(self) -> None:
        """Say that this process drives the plant and that its loop got on; the loop itself says so, nothing else."""
        self._words[_COUNT] = (self._words[_COUNT] + 1) & (2**64 - 1)
        self._words[_PROGRESS] = self._clock()
        # Every time: whoever was thought dead and comes back is watched again.
        self._words[_PID] = os.getpid()

    def end(self) -> None:
        """Say that nobody drives the plant any more: an end in order, which is no emergency."""
        self._words[_PID] = 0

    # What the guard writes

    def attend(self) -> None:
        """Say that the guard is there."""
        self._words[_GUARD] = self._clock()

    def stop(self, reason: str) -> None:
        """Stop the plant; the first reason stays."""
        if not self._words[_EMERGENCY]:
            text = reason.encode()[: _LONGEST - 1]
            self._page[_REASON : _REASON + _LONGEST] = text.ljust(_LONGEST, b"\0")
            self._words[_EMERGENCY] = self._clock()

    # What the plant reads, and a person writes

    @property
    def driver(self) -> int:
        """Process that drives the plant; 0 for none."""
        return int(self._words[_PID])

    @property
    def count(self) -> int:
        """How often the loop said that it got on."""
        return int(self._words[_COUNT])

    @property
    def progress(self) -> int:
        """When the loop last got on, in ns."""
        return int(self._words[_PROGRESS])

    def silence(self) -> float:
        """Since when the loop did not get on, in s."""
        return max(0, self._clock() - self.progress) / 1e9

    def stopped(self) -> str:
        """Why the plant must stand still; empty if it need not."""
        if self._words[_EMERGENCY]:
            return self._page[_REASON : _REASON + _LONGEST].rstrip(b"\0").decode(errors="replace")
        away = (self._clock() - int(self._words[_GUARD])) / 1e9
        return f"the guard is gone: no round for {1e3 * away:.0f} ms" if away > GUARD_GONE else ""

    def release(self) -> None:
        """Lower the emergency: a person's decision, and never the control process's."""
        self._words[_EMERGENCY] = 0

    def close(self) -> None:
        self._words.release()
        self._page.close()
