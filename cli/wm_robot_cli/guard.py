"""Verb `wm-robot guard`: a separate process that stops the plant when the control process ends or stalls."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import tyro

from wm_robot.errors import ConfigError
from wm_robot_cli.values import Milliseconds


def run_guard_verb(
    page: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str = "arm",
    limit_ms: Milliseconds | None = None,
    release: bool = False,
) -> None:
    """Stop the plant when the control process ends, or makes no progress for too long.

    Args:
        page: File that control, guard and plant share, on /dev/shm; the first process creates it.
        robot: Name or spec of the robot, for the time limit of its loop.
        limit_ms: Time limit in ms, instead of that of the spec.
        release: Reset an emergency stop and exit. The plant moves again only after it is armed.
    """
    from wm_robot.control.realtime import request_real_time
    from wm_robot.safety.guard import REALTIME_PRIORITY, Guard
    from wm_robot.safety.heartbeat import Heartbeat
    from wm_robot.safety.systemd import ServiceNotifier

    heartbeat = Heartbeat(page)
    if release:
        print(f"released: {heartbeat.stopped() or 'there was no emergency'}")
        heartbeat.release()
        return
    limit = _read_limit(robot, limit_ms)
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: asked.append(number))
    for why_not in filter(None, request_real_time(REALTIME_PRIORITY).values()):
        print(why_not, file=sys.stderr)
    service, watcher = ServiceNotifier(), Guard(heartbeat, max_silence=limit)
    print(f"guarding {page}: stops the plant after {1e3 * limit:.0f} ms without progress", flush=True)
    service.notify_ready()
    while not asked:
        reason = watcher.run_check()
        if reason:
            print(f"stopped the plant: {reason}", flush=True)
        service.ping_watchdog()
        watcher.wait_for_check()
    service.notify_stopping()


def _read_limit(robot: str, limit_ms: float | None) -> float:
    """Return the time limit in s."""
    if limit_ms is None:
        from wm_robot.robots import load_spec

        return load_spec(robot).safety.heartbeat_timeout
    if not 1 <= limit_ms <= 10_000:
        raise ConfigError(f"limit-ms is {limit_ms:g}; it must be from 1 to 10000")
    return limit_ms / 1e3
