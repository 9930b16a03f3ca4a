"""How far a long job is and how long it still takes, for people. Written to stderr: stdout holds results alone."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from wm_robot.progress import Progress

EVERY_S = 10.0
"""Time to the first plain line, and from one to the next, in s: what takes less prints none."""
LIVE_EVERY_S = 0.5
"""Time from one change of the live line to the next, in s."""
ESTIMATED_FROM = 0.02
"""Part of the work from which the rest is estimated: before, its start-up is most of what was seen."""
TICK_S = 0.5
OVERDUE = 1.1


class ProgressMeter:
    """A live line on a terminal, a plain line without control characters every ten seconds elsewhere.

    It is itself a `Progress`: call it with what is done and with all there is to do.
    """

    def __init__(self, job: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        job: Name of what is done, at the start of the line.
        """
        self._job, self._clock = job, clock
        self._out = sys.stderr
        self._began = self._printed = clock()
        self._fraction = 0.0
        self._live: Any = None

    def __enter__(self) -> "ProgressMeter":
        if self._out.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                console=Console(file=self._out),
                # Slow, and only as wide as it must be: what is measured may be the time of a loop.
                refresh_per_second=1,
                transient=True,
                # What is printed meanwhile goes above the line, but never to stderr what is piped.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.add_task(self.line(), total=1.0)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, done: int, total: int) -> None:
        self._fraction = max(self._fraction, min(1.0, done / total)) if total else self._fraction
        now = self._clock()
        if now - self._printed < (EVERY_S if self._live is None else LIVE_EVERY_S):
            return
        self._printed = now
        if self._live is None:
            print(self.line(), file=self._out, flush=True)
        else:
            self._live.update(0, completed=self._fraction, description=self.line())

    def line(self) -> str:
        """What is done, in words: part, time, and an estimate of the time that is left."""
        seconds = self._clock() - self._began
        said = f"{self._job}: {int(100 * self._fraction)} % in {in_words(seconds)}"
        if self._fraction < ESTIMATED_FROM or self._fraction >= 1.0:
            return said
        return f"{said}, about {in_words(seconds * (1 - self._fraction) / self._fraction)} left"


def in_words(seconds: float) -> str:
    """A time to read: `42 s`, `3 min 20 s`, `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def by_the_clock(progress: Progress, seconds: float) -> Iterator[None]:
    """Report the time that goes by while something runs that takes a known time.

    Args:
        seconds: How long it takes. What is overdue is taken to need a tenth of its time more, as long as it lasts.
    """
    began, over = time.monotonic(), threading.Event()

    def tick() -> None:
        while not over.wait(TICK_S):
            gone = time.monotonic() - began
            progress(round(1000 * gone), round(1000 * max(seconds, OVERDUE * gone)))

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        over.set()
        ticking.join()
    progress(1, 1)
