"""Status reader: reads the recorder's status file while it grows."""

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.evaluation.recovery import START_SECONDS, WINDOW_SECONDS

SHOWN_SECONDS = 6.0
"""Seconds of error on the display."""


@dataclass(kw_only=True)
class RobotStatus:
    """Latest status of one robot."""

    name: str
    time: float | None = None
    """Seconds since its first command; None before."""
    since_change: float | None = None
    errors: deque[tuple[float, float]] = field(default_factory=deque)
    """Time in s and error of the task in the last seconds."""
    active: bool = False
    fault: str = ""
    surprise: float | None = None
    lifetime_steps: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    _stamp: int = 0
    _sum_before: float = 0.0
    _num_before: int = 0

    @property
    def error_before(self) -> float:
        """Mean error before the change, from the start of evaluation; 0 without data."""
        return self._sum_before / max(self._num_before, 1)

    @property
    def recent_error(self) -> float | None:
        """Mean error of the last half second."""
        recent = [e for t, e in self.errors if t > self.errors[-1][0] - WINDOW_SECONDS]
        return float(np.mean(recent)) if recent else None

    def update_from(self, status: dict[str, Any]) -> bool:
        """Update from a status. Return whether it is new."""
        self.active = bool(status.get("active", False))
        self.fault = str(status.get("fault", ""))
        self.surprise = status.get("surprise")
        self.lifetime_steps = int(status.get("lifetime", {}).get("num_steps", 0))
        latency = status.get("latency", {})
        self.p50_ms, self.p99_ms = latency.get("p50_ms", 0.0), latency.get("p99_ms", 0.0)
        new, self._stamp = status.get("stamp", 0) > self._stamp, status.get("stamp", 0)
        if "start" not in status or not self._stamp:
            return new
        time = self.time = (status["stamp"] - status["start"]) / 1e9
        if "change" in status:
            self.since_change = (status["stamp"] - status["change"]) / 1e9
        if new and "error" in status:
            self.errors.append((time, status["error"]))
            if self.since_change is None and time >= START_SECONDS:
                self._sum_before += status["error"]
                self._num_before += 1
        while self.errors and self.errors[0][0] < time - SHOWN_SECONDS:
            self.errors.popleft()
        return new


class StatusReader:
    """Reader of a recorder's status file."""

    def __init__(self, path: Path):
        self._path = path
        self._at = 0
        self.robots: dict[str, RobotStatus] = {}

    def read_new(self) -> set[str]:
        """Read the appended lines. Return the names of robots with a new status."""
        if not self._path.exists():
            return set()
        with self._path.open(encoding="utf-8") as file:
            file.seek(self._at)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._at += len(whole.encode())
        news: set[str] = set()
        for line in whole.splitlines():
            for name, said in json.loads(line)["robots"].items():
                if self.robots.setdefault(name, RobotStatus(name=name)).update_from(said):
                    news.add(name)
        return news
