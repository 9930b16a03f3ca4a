"""How far a measurement is: a function that is called with what is done, and how to hand out parts of it."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the parts that are done and the number of all parts, as often as the work likes."""


def unreported(done: int, total: int) -> None:
    """The progress of work that nobody watches."""


def part_of(progress: Progress, start: int, size: int, whole: int) -> Progress:
    """The progress of one part of a larger work.

    Args:
        start: What is done before this part begins, in the unit of `whole`.
        size: What this part adds.
        whole: All of the work. The unit is free: seconds, steps, or shares of the expected time.
    """

    def report(done: int, total: int) -> None:
        progress(start * total + size * done, whole * total)

    return report
