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

from wm_robot.io.shared_ring import ArrayField, SharedRing, SlotLayout
from wm_robot.safety.limit_violations import LimitRule
from wm_robot.safety.modes import Mode

NUM_SLOTS = 4096
"""Capacity of the ring, in periods: 80 s at 50 Hz."""
POLL_INTERVAL = 0.1
"""Time between two polls of the writer, in s."""
MAX_FILE_BYTES = 64 << 20
"""Size at which the writer starts a new file, in bytes; it keeps one previous file."""
NICE = 10
WRITER_TIMEOUT = 2.0
"""Longest wait for the writer to write the remaining periods, in s."""
END_STAMP = -1
"""Stamp that marks the end of the log."""
MODES, RULES = tuple(Mode), tuple(LimitRule)
NOT_MEASURED = math.nan


class PeriodRecord(NamedTuple):
    """Log entry of a control period; values that a process cannot measure are NaN, and are not written."""

    stamp: int
    """Stamp of the observation, in ns."""
    late_ms: float = NOT_MEASURED
    """Time from the deadline to the start of the period."""
    latency_ms: float = NOT_MEASURED
    """Time from the stamp of the sensors to the command."""
    act_ms: float = NOT_MEASURED
    """Time of selecting the action."""
    learn_ms: float = NOT_MEASURED
    """Time of reporting, or of learning from a transition."""
    surprise: float = NOT_MEASURED
    """Surprise, in nats per channel."""
    mode: Mode | None = None
    violations: tuple[LimitRule, ...] = ()


NUMBER_KEYS = ("late_ms", "latency_ms", "act_ms", "learn_ms", "surprise")
RING_LAYOUT: SlotLayout = {
    "whole": ArrayField((3,), np.dtype(np.int64).str),
    "numbers": ArrayField((len(NUMBER_KEYS),), np.dtype(np.float64).str),
}


class PeriodLog:
    """Non-blocking log of periods; entries that do not fit into the ring are dropped and counted."""

    def __init__(self, path: str | Path, *, num_slots: int = NUM_SLOTS):
        self.path, self.num_dropped = Path(path).absolute(), 0
        self._ring = SharedRing(RING_LAYOUT, num_slots)
        self._whole, self._numbers = np.zeros(3, np.int64), np.zeros(len(NUMBER_KEYS))
        self._slot = {"whole": self._whole, "numbers": self._numbers}
        context = multiprocessing.get_context("spawn")
        arguments = (str(self.path), num_slots, self._ring.name, os.getpid())
        self._writer = context.Process(target=_run_writer, args=arguments, daemon=True)
        self._writer.start()

    @property
    def is_writing(self) -> bool:
        """Whether the writer process runs; the control loop continues without it."""
        return self._writer.is_alive()

    @property
    def writer_pid(self) -> int:
        """Process id of the writer."""
        return int(self._writer.pid or 0)

    def add_period(self, period: PeriodRecord) -> None:
        self._whole[:] = (
            period.stamp,
            -1 if period.mode is None else MODES.index(period.mode),
            sum(1 << RULES.index(rule) for rule in set(period.violations)),
        )
        self._numbers[:] = period[1 : 1 + len(NUMBER_KEYS)]
        self.num_dropped += not self._ring.try_write(self._slot)

    def close(self) -> None:
        """Write the remaining periods, then stop the writer."""
        self._whole[0] = END_STAMP
        self._ring.try_write(self._slot)
        self._writer.join(WRITER_TIMEOUT)
        self._writer.terminate()
        self._writer.join(WRITER_TIMEOUT)
        if self._writer.is_alive():
            # A suspended process ignores SIGTERM.
            self._writer.kill()
            self._writer.join()
        self._ring.close()


def describe_log(log: PeriodLog | None) -> dict[str, Any]:
    """Return the status values of a log; empty without a log."""
    return {} if log is None else {"alive": log.is_writing, "dropped": log.num_dropped}


def format_period(whole: np.ndarray, numbers: np.ndarray) -> str:
    """Return the line of JSON of a period, from its slot in the ring."""
    stamp, mode, violations = (int(number) for number in whole)
    values: dict[str, Any] = {"stamp": stamp}
    values |= {n: round(float(x), 4) for n, x in zip(NUMBER_KEYS, numbers, strict=True) if math.isfinite(x)}
    if mode >= 0:
        values["mode"] = MODES[mode].value
    if violations:
        values["violations"] = [rule.value for bit, rule in enumerate(RULES) if violations >> bit & 1]
    return json.dumps(values, allow_nan=False, separators=(",", ":"))


def _run_writer(path: str, num_slots: int, name: str, parent: int) -> None:
    """Write periods from the ring to the file until the log ends: the main function of the writer process."""
    # Ctrl-C ends the loop, which then closes the log; so the writer ignores it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    ring, place = SharedRing(RING_LAYOUT, num_slots, name), Path(path)
    while True:
        # Check the parent first: periods that it added before its death are then still written.
        alone = os.getppid() != parent
        with place.open("a", encoding="utf-8") as file:
            ended = _write_pending(ring, file) or alone
            full = file.tell() > MAX_FILE_BYTES
        if ended:
            return
        if full:
            place.replace(place.with_name(place.name + ".1"))
        time.sleep(POLL_INTERVAL)


def _write_pending(ring: SharedRing, file: TextIO) -> bool:
    """Write the periods in the ring; return whether the log has ended."""
    while (slot := ring.read_next()) is not None:
        if slot["whole"][0] == END_STAMP:
            return True
        file.write(format_period(slot["whole"], slot["numbers"]) + "\n")
    return False
