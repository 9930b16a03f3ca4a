"""Guard: a separate process that stops the plant when the control process dies or stalls. No numpy, torch or ROS."""

import os
import select

from wm_robot.safety.heartbeat import Heartbeat

CHECK_INTERVAL = 0.001
"""Time between two checks, in s."""
REALTIME_PRIORITY = 60
"""Real-time priority: above the loops that it monitors."""


class Guard:
    """Monitors one heartbeat and stops the plant when the heartbeat stops."""

    def __init__(self, heartbeat: Heartbeat, *, max_silence: float):
        """Args:
        max_silence: Longest time without progress of the loop, in s.
        """
        self._heartbeat, self._max_silence = heartbeat, max_silence
        self._driver_pid, self._pid_handle = 0, -1
        self.num_stops = 0

    def run_check(self) -> str:
        """Run one check; return why it stopped the plant just now, or an empty text."""
        heartbeat = self._heartbeat
        heartbeat.record_guard_check()
        self._follow_process(heartbeat.driver)
        reason = self._find_stop_reason()
        if not reason:
            return ""
        heartbeat.stop_plant(reason)
        # The driving process is deregistered; the next one registers itself.
        heartbeat.deregister_driver()
        self.num_stops += 1
        return reason

    def _find_stop_reason(self) -> str:
        if not self._driver_pid:
            return ""
        if self._pid_handle >= 0 and select.select([self._pid_handle], [], [], 0)[0]:
            return f"control process {self._driver_pid} is dead"
        silence = self._heartbeat.compute_silence()
        if silence > self._max_silence:
            return f"control process {self._driver_pid} made no progress for {1e3 * silence:.0f} ms"
        return ""

    def _follow_process(self, pid: int) -> None:
        """Open a handle to the driving process, so that its death is detected at once."""
        if pid == self._driver_pid:
            return
        if self._pid_handle >= 0:
            os.close(self._pid_handle)
        self._driver_pid, self._pid_handle = pid, -1
        if pid and hasattr(os, "pidfd_open"):
            try:
                self._pid_handle = os.pidfd_open(pid)
            except OSError:
                # A process of another container, perhaps: there its silence is detected.
                self._pid_handle = -1

    def wait_for_check(self) -> None:
        """Wait until the next check, or the death of the driving process."""
        select.select([self._pid_handle] if self._pid_handle >= 0 else [], [], [], CHECK_INTERVAL)
