"""Guard: a separate process that stops the plant when the control process dies or stalls. No numpy, torch or ROS."""

import os
import select

from wm_robot.safety.heartbeat import Heartbeat

ROUND = 0.001
"""Time between two checks, in s."""
PRIORITY = 60
"""Real-time priority: above the loops that it monitors."""


class Guard:
    """Monitors one heartbeat and stops the plant when the heartbeat stops."""

    def __init__(self, heartbeat: Heartbeat, *, limit: float):
        """Args:
        limit: Longest time without progress of the loop, in s.
        """
        self._heartbeat, self._limit = heartbeat, limit
        self._watched, self._handle = 0, -1
        self.stops = 0

    def look(self) -> str:
        """Run one check; return why it stopped the plant just now, or an empty text."""
        heartbeat = self._heartbeat
        heartbeat.attend()
        self._follow(heartbeat.driver)
        reason = self._reason()
        if not reason:
            return ""
        heartbeat.stop(reason)
        # The driving process is deregistered; the next one registers itself.
        heartbeat.end()
        self.stops += 1
        return reason

    def _reason(self) -> str:
        if not self._watched:
            return ""
        if self._handle >= 0 and select.select([self._handle], [], [], 0)[0]:
            return f"control process {self._watched} is dead"
        silence = self._heartbeat.silence()
        if silence > self._limit:
            return f"control process {self._watched} made no progress for {1e3 * silence:.0f} ms"
        return ""

    def _follow(self, driver: int) -> None:
        """Open a handle to the driving process, so that its death is detected at once."""
        if driver == self._watched:
            return
        if self._handle >= 0:
            os.close(self._handle)
        self._watched, self._handle = driver, -1
        if driver and hasattr(os, "pidfd_open"):
            try:
                self._handle = os.pidfd_open(driver)
            except OSError:
                # A process of another container, perhaps: there its silence is detected.
                self._handle = -1

    def wait(self) -> None:
        """Wait until the next check, or the death of the driving process."""
        select.select([self._handle] if self._handle >= 0 else [], [], [], ROUND)
