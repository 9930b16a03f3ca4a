"""Progress callbacks: functions that receive the number of finished parts, and how to nest them."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of finished parts and of all parts, at any rate."""


def ignore_progress(done: int, total: int) -> None:
    """Ignore the progress of a task."""


def make_part_progress(whole_progress: Progress, start: int, size: int, whole: int) -> Progress:
    """Return the callback for one part of a larger task.

    Args:
        start: Work finished before this part, in the unit of `whole`.
        size: Work of this part.
        whole: All work. Any unit: seconds, steps, or shares of the expected time.
    """

    def report(done: int, total: int) -> None:
        whole_progress(start * total + size * done, whole * total)

    return report
