"""The guard: a process of its own that stops the plant when control dies or stalls. No numpy, no torch, no ROS."""

import os
import select

from wm_robot.safety.heartbeat import Heartbeat

ROUND = 0.001
"""Time from one look to the next, in s."""
PRIORITY = 60
"""Among real-time processes: before the loops that it watches."""


class Guard:
    """Watches one heartbeat."""

    def __init__(self, heartbeat: Heartbeat, *, limit: float):
        """Args:
        limit: Longest time without progress of the loop, in s.
        """
        self._heartbeat, self._limit = heartbeat, limit
        self._watched, self._handle = 0, -1
        self.stops = 0

    def look(self) -> str:
        """One round; why it stopped the plant just now, or nothing."""
        heartbeat = self._heartbeat
        heartbeat.attend()
        self._follow(heartbeat.driver)
        reason = self._reason()
        if not reason:
            return ""
        heartbeat.stop(reason)
        # Whoever drove does so no more; the next one begins anew.
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
        """Hold on to the process that drives, so that its death is seen at once."""
        if driver == self._watched:
            return
        if self._handle >= 0:
            os.close(self._handle)
        self._watched, self._handle = driver, -1
        if driver and hasattr(os, "pidfd_open"):
            try:
                self._handle = os.pidfd_open(driver)
            except OSError:
                # Of another container, perhaps: there its silence tells.
                self._handle = -1

    def wait(self) -> None:
        """Until the next look, or the death of the process that drives."""
        select.select([self._handle] if self._handle >= 0 else [], [], [], ROUND)
