"""Period log: one line of JSON for each control period, written by another process.

The control loop never waits for a disk. Layout::

    loop ── periods (shared memory, dropped when full) ──▶ writer ──▶ FILE, older part in FILE.1
"""

import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from wm_robot.io.shared_ring import Field, Layout, Ring
from wm_robot.safety.limit_violations import Rule
from wm_robot.safety.modes import Mode

SLOTS = 4096
"""Capacity of the ring, in periods: 80 s at 50 Hz."""
LOOK = 0.1
"""Time between two polls of the writer, in s."""
LARGEST = 64 << 20
"""Size at which the writer starts a new file, in bytes; it keeps one previous file."""
NICE = 10
PATIENCE = 2.0
"""Longest wait for the writer to write the remaining periods, in s."""
END = -1
"""Stamp that marks the end of the log."""
MODES, RULES = tuple(Mode), tuple(Rule)
UNKNOWN = math.nan


class Period(NamedTuple):
    """Log entry of a control period; values that a process cannot measure are NaN, and are not written."""

    stamp: int
    """Stamp of the observation, in ns."""
    late_ms: float = UNKNOWN
    """Time from the deadline to the start of the period."""
    latency_ms: float = UNKNOWN
    """Time from the stamp of the sensors to the command."""
    act_ms: float = UNKNOWN
    """Time of selecting the action."""
    live_ms: float = UNKNOWN
    """Time of reporting, or of learning from a transition."""
    surprise: float = UNKNOWN
    """Surprise, in nats per channel."""
    mode: Mode | None = None
    cuts: tuple[Rule, ...] = ()


NUMBERS = ("late_ms", "latency_ms", "act_ms", "live_ms", "surprise")
LAYOUT: Layout = {
    "whole": Field((3,), np.dtype(np.int64).str),
    "numbers": Field((len(NUMBERS),), np.dtype(np.float64).str),
}


class PeriodLog:
    """Non-blocking log of periods; entries that do not fit into the ring are dropped and counted."""

    def __init__(self, path: str | Path, *, slots: int = SLOTS):
        self.path, self.dropped = Path(path).absolute(), 0
        self._ring = Ring(LAYOUT, slots)
        self._whole, self._numbers = np.zeros(3, np.int64), np.zeros(len(NUMBERS))
        self._slot = {"whole": self._whole, "numbers": self._numbers}
        context = multiprocessing.get_context("spawn")
        arguments = (str(self.path), slots, self._ring.name, os.getpid())
        self._writer = context.Process(target=_write, args=arguments, daemon=True)
        self._writer.start()

    @property
    def alive(self) -> bool:
        """Whether the writer process runs; the control loop continues without it."""
        return self._writer.is_alive()

    @property
    def pid(self) -> int:
        """Process id of the writer."""
        return int(self._writer.pid or 0)

    def add(self, period: Period) -> None:
        self._whole[:] = (
            period.stamp,
            -1 if period.mode is None else MODES.index(period.mode),
            sum(1 << RULES.index(rule) for rule in set(period.cuts)),
        )
        self._numbers[:] = period[1 : 1 + len(NUMBERS)]
        self.dropped += not self._ring.put(self._slot)

    def close(self) -> None:
        """Write the remaining periods, then stop the writer."""
        self._whole[0] = END
        self._ring.put(self._slot)
        self._writer.join(PATIENCE)
        self._writer.terminate()
        self._writer.join(PATIENCE)
        if self._writer.is_alive():
            # A suspended process ignores SIGTERM.
            self._writer.kill()
            self._writer.join()
        self._ring.close()


def log_status(log: PeriodLog | None) -> dict[str, Any]:
    """Return the status values of a log; empty without a log."""
    return {} if log is None else {"alive": log.alive, "dropped": log.dropped}


def line_of(whole: np.ndarray, numbers: np.ndarray) -> str:
    """Return the line of JSON of a period, from its slot in the ring."""
    stamp, mode, cuts = (int(number) for number in whole)
    values: dict[str, Any] = {"stamp": stamp}
    values |= {n: round(float(x), 4) for n, x in zip(NUMBERS, numbers, strict=True) if math.isfinite(x)}
    if mode >= 0:
        values["mode"] = MODES[mode].value
    if cuts:
        values["cuts"] = [rule.value for bit, rule in enumerate(RULES) if cuts >> bit & 1]
    return json.dumps(values, allow_nan=False, separators=(",", ":"))


def _write(path: str, slots: int, name: str, parent: int) -> None:
    """Write periods from the ring to the file until the log ends: the main function of the writer process."""
    # Ctrl-C ends the loop, which then closes the log; so the writer ignores it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    ring, place = Ring(LAYOUT, slots, name), Path(path)
    while True:
        # Check the parent first: periods that it added before its death are then still written.
        alone = os.getppid() != parent
        with place.open("a", encoding="utf-8") as file:
            ended = _drain(ring, file) or alone
            full = file.tell() > LARGEST
        if ended:
            return
        if full:
            place.replace(place.with_name(place.name + ".1"))
        time.sleep(LOOK)


def _drain(ring: Ring, file: TextIO) -> bool:
    """Write the periods in the ring; return whether the log has ended."""
    while (slot := ring.take()) is not None:
        if slot["whole"][0] == END:
            return True
        file.write(line_of(slot["whole"], slot["numbers"]) + "\n")
    return False
