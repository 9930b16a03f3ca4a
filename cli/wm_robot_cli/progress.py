"""Progress meter: progress and remaining time of a long job, on stderr. Stdout contains results only."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from wm_robot.progress import Progress

SECONDS_PER_LINE = 10.0
"""Seconds to the first plain line, and between two lines. A shorter job prints none."""
SECONDS_PER_UPDATE = 0.5
"""Seconds between two changes of the terminal line."""
MIN_SHARE_FOR_ESTIMATE = 0.02
"""Share of the work from which the remaining time is estimated. Before, start-up dominates the measured time."""
TIMER_SECONDS = 0.5
OVERDUE_FACTOR = 1.1


class ProgressMeter:
    """Progress meter: a live line on a terminal, else a plain line every ten seconds.

    It implements `Progress`: call it with the finished and the total work.
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
                # Slow and narrow, because the job may measure the time of a loop.
                refresh_per_second=1,
                transient=True,
                # Printed output appears above the line; piped output never goes to stderr.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.add_task(self.format_line(), total=1.0)
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
        if now - self._printed < (SECONDS_PER_LINE if self._live is None else SECONDS_PER_UPDATE):
            return
        self._printed = now
        if self._live is None:
            print(self.format_line(), file=self._out, flush=True)
        else:
            self._live.update(0, completed=self._fraction, description=self.format_line())

    def format_line(self) -> str:
        """Format the progress: share, elapsed time, and an estimate of the remaining time."""
        seconds = self._clock() - self._began
        said = f"{self._job}: {int(100 * self._fraction)} % in {format_duration(seconds)}"
        if self._fraction < MIN_SHARE_FOR_ESTIMATE or self._fraction >= 1.0:
            return said
        return f"{said}, about {format_duration(seconds * (1 - self._fraction) / self._fraction)} left"


def format_duration(seconds: float) -> str:
    """Format a time: `42 s`, `3 min 20 s`, `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def report_elapsed_time(progress: Progress, expected_seconds: float) -> Iterator[None]:
    """Report elapsed time as progress while a task of expected duration runs.

    Args:
        expected_seconds: Expected duration. An overdue task always has a tenth of its elapsed time left.
    """
    began, over = time.monotonic(), threading.Event()

    def report_ticks() -> None:
        while not over.wait(TIMER_SECONDS):
            gone = time.monotonic() - began
            progress(round(1000 * gone), round(1000 * max(expected_seconds, OVERDUE_FACTOR * gone)))

    ticking = threading.Thread(target=report_ticks, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        over.set()
        ticking.join()
    progress(1, 1)
