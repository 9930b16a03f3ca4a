"""Final save: keeps a process running until its lifetime state is saved, or a user discards it."""

import os
import time

from rclpy.impl.rcutils_logger import RcutilsLogger

from wm_robot_ros.middleware.node_runtime import PATIENCE, Stop
from wm_robot_ros.state_api.state_session import StateSession

RETRY = 5.0
"""Time between two attempts, in s."""


def hold_until_saved(session: StateSession, stop: Stop, log: RcutilsLogger) -> None:
    """Retry to save while the state is only in this process; one more request to stop discards it."""
    if not session.only_in_memory:
        return
    log.fatal(
        f"the lifetime state is saved nowhere. This process, {os.getpid()}, keeps the state and tries again every "
        f"{RETRY:.0f} s: free disk space. Another Ctrl-C or SIGTERM discards the state"
    )
    before, due = stop.requests, time.monotonic() + RETRY
    while session.only_in_memory:
        if stop.requests > before:
            log.fatal(f"discarded: all updates since the last save. {session.record.error}")
            return
        time.sleep(PATIENCE)
        if time.monotonic() >= due:
            session.save_and_wait()
            due = time.monotonic() + RETRY
