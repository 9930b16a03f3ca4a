"""Status reader: reads the recorder's status file while it grows."""

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.evaluation.recovery import START, WINDOW

SHOWN = 6.0
"""Seconds of error on the display."""


@dataclass(kw_only=True)
class RobotView:
    """Latest status of one robot."""

    name: str
    time: float | None = None
    """Seconds since its first command; None before."""
    since_change: float | None = None
    errors: deque[tuple[float, float]] = field(default_factory=deque)
    """Time in s and error in m of the last seconds."""
    active: bool = False
    trouble: str = ""
    surprise: float | None = None
    lived: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    _stamp: int = 0
    _sum_before: float = 0.0
    _heard_before: int = 0

    @property
    def before(self) -> float:
        """Mean error before the change, from the start of evaluation, in m; 0 without data."""
        return self._sum_before / max(self._heard_before, 1)

    @property
    def error(self) -> float | None:
        """Mean error of the last half second, in m."""
        recent = [e for t, e in self.errors if t > self.errors[-1][0] - WINDOW]
        return float(np.mean(recent)) if recent else None

    def hear(self, said: dict[str, Any]) -> bool:
        """Update from a status. Return whether it is new."""
        self.active = bool(said.get("active", False))
        self.trouble = str(said.get("trouble", ""))
        self.surprise = said.get("surprise")
        self.lived = int(said.get("life", {}).get("lived", 0))
        latency = said.get("latency", {})
        self.p50_ms, self.p99_ms = latency.get("p50_ms", 0.0), latency.get("p99_ms", 0.0)
        new, self._stamp = said.get("stamp", 0) > self._stamp, said.get("stamp", 0)
        if "start" not in said or not self._stamp:
            return new
        time = self.time = (said["stamp"] - said["start"]) / 1e9
        if "change" in said:
            self.since_change = (said["stamp"] - said["change"]) / 1e9
        if new:
            self.errors.append((time, said["error"]))
            if self.since_change is None and time >= START:
                self._sum_before += said["error"]
                self._heard_before += 1
        while self.errors and self.errors[0][0] < time - SHOWN:
            self.errors.popleft()
        return new


class Watch:
    """Reader of a recorder's status file."""

    def __init__(self, path: Path):
        self._path = path
        self._at = 0
        self.robots: dict[str, RobotView] = {}

    def look(self) -> set[str]:
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
                if self.robots.setdefault(name, RobotView(name=name)).hear(said):
                    news.add(name)
        return news
