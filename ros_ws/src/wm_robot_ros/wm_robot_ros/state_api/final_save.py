"""Final save: keeps a process until its lifetime state is saved somewhere, or a person gives it up."""

import os
import time

from rclpy.impl.rcutils_logger import RcutilsLogger

from wm_robot_ros.middleware.node_runtime import PATIENCE, Stop
from wm_robot_ros.state_api.state_session import StateSession

RETRY = 5.0
"""Seconds between two attempts."""


def hold_until_saved(session: StateSession, stop: Stop, log: RcutilsLogger) -> None:
    """Stay and try again while the state is in this process alone; one more request to end gives it up."""
    if not session.only_in_memory:
        return
    log.fatal(
        f"what was lived is saved nowhere. This process, {os.getpid()}, keeps the state and tries again every "
        f"{RETRY:.0f} s: make room. Another Ctrl-C or SIGTERM gives the state up"
    )
    before, due = stop.requests, time.monotonic() + RETRY
    while session.only_in_memory:
        if stop.requests > before:
            log.fatal(f"given up: what was lived since the last save. {session.record.error}")
            return
        time.sleep(PATIENCE)
        if time.monotonic() >= due:
            session.save_and_wait()
            due = time.monotonic() + RETRY
