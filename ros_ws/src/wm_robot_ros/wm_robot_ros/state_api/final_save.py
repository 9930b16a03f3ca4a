"""Final save: keeps a process running until its lifetime state is saved, or a user discards it."""

import os
import time

from rclpy.impl.rcutils_logger import RcutilsLogger

from wm_robot_ros.middleware.node_runtime import MAX_WAIT, ShutdownFlag
from wm_robot_ros.state_api.state_session import StateSession

RETRY_INTERVAL = 5.0
"""Time between two attempts, in s."""


def hold_until_saved(session: StateSession, shutdown_flag: ShutdownFlag, log: RcutilsLogger) -> None:
    """Retry to save while the state is only in this process; one more request to stop discards it."""
    if not session.only_in_memory:
        return
    log.fatal(
        f"the lifetime state is saved nowhere. This process, {os.getpid()}, keeps the state and tries again every "
        f"{RETRY_INTERVAL:.0f} s: free disk space. Another Ctrl-C or SIGTERM discards the state"
    )
    before, due = shutdown_flag.num_requests, time.monotonic() + RETRY_INTERVAL
    while session.only_in_memory:
        if shutdown_flag.num_requests > before:
            log.fatal(f"discarded: all updates since the last save. {session.record.error}")
            return
        time.sleep(MAX_WAIT)
        if time.monotonic() >= due:
            session.save_and_wait()
            due = time.monotonic() + RETRY_INTERVAL
