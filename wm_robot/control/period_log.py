"""What every control period brought, as lines of JSON: written by another process, so that no disk delays a loop.

::

    loop ── periods (shared memory, dropped when full) ──▶ writer ──▶ FILE, and FILE.1 before it
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
"""Periods that wait for the disk: 80 s at 50 Hz."""
LOOK = 0.1
"""Time between two looks of the writer, in s."""
LARGEST = 64 << 20
"""Size of a file, in bytes, from which on a new one is begun; the one before is kept, and no other."""
NICE = 10
PATIENCE = 2.0
"""Time that the writer has to write the rest, in s."""
END = -1
"""Stamp of what is no period: there are no more."""
MODES, RULES = tuple(Mode), tuple(Rule)
UNKNOWN = math.nan


class Period(NamedTuple):
    """One of them; what a process does not know or do is not a number, and is not written."""

    stamp: int
    """Of its observation, in ns."""
    late_ms: float = UNKNOWN
    """From its deadline until it began."""
    latency_ms: float = UNKNOWN
    """From the sensors' stamp to the command."""
    act_ms: float = UNKNOWN
    live_ms: float = UNKNOWN
    surprise: float = UNKNOWN
    """In nats per channel."""
    mode: Mode | None = None
    cuts: tuple[Rule, ...] = ()


NUMBERS = ("late_ms", "latency_ms", "act_ms", "live_ms", "surprise")
LAYOUT: Layout = {
    "whole": Field((3,), np.dtype(np.int64).str),
    "numbers": Field((len(NUMBERS),), np.dtype(np.float64).str),
}


class PeriodLog:
    """Hands periods over to a writer. It never blocks: what it has no room for is dropped, and counted."""

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
        """Whether anybody writes; a loop goes on without."""
        return self._writer.is_alive()

    @property
    def pid(self) -> int:
        """Of the writer."""
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
        """Have the rest written, and end the writer."""
        self._whole[0] = END
        self._ring.put(self._slot)
        self._writer.join(PATIENCE)
        self._writer.terminate()
        self._writer.join(PATIENCE)
        if self._writer.is_alive():
            # Stopped by somebody: it hears nothing else.
            self._writer.kill()
            self._writer.join()
        self._ring.close()


def log_status(log: PeriodLog | None) -> dict[str, Any]:
    """What is to be told of a log; empty where there is none."""
    return {} if log is None else {"alive": log.alive, "dropped": log.dropped}


def line_of(whole: np.ndarray, numbers: np.ndarray) -> str:
    """A period as JSON; the inverse of how it is handed over."""
    stamp, mode, cuts = (int(number) for number in whole)
    values: dict[str, Any] = {"stamp": stamp}
    values |= {n: round(float(x), 4) for n, x in zip(NUMBERS, numbers, strict=True) if math.isfinite(x)}
    if mode >= 0:
        values["mode"] = MODES[mode].value
    if cuts:
        values["cuts"] = [rule.value for bit, rule in enumerate(RULES) if cuts >> bit & 1]
    return json.dumps(values, allow_nan=False, separators=(",", ":"))


def _write(path: str, slots: int, name: str, parent: int) -> None:
    """All that the process does."""
    # Ctrl-C is for the loop, which has the rest written.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    ring, place = Ring(LAYOUT, slots, name), Path(path)
    while True:
        # Looked at first: what was handed over before it died is still there.
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
    """Write what is there; whether there is no more to come."""
    while (slot := ring.take()) is not None:
        if slot["whole"][0] == END:
            return True
        file.write(line_of(slot["whole"], slot["numbers"]) + "\n")
    return False
