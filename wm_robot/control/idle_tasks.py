"""Tasks for the idle time between two control periods, started by the time that they took lately."""

import time
from collections.abc import Callable

FADES = 0.98
"""What a long time counts for, from one time to the next."""
ROOM = 1.5
"""How often what can wait, as long as it lately took, must fit in the time that is left."""
LEAST = 1e-4
"""What takes less, in s, or was put off until it counts for less, is done whatever is left."""


class _Takes:
    """How long something takes: the longest lately, in s."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """It took so long."""
        self.seconds = max(FADES * self.seconds, seconds)

    def fade(self) -> None:
        """It did not fit: what took long once is tried again, some time."""
        self.seconds *= FADES


class Chore:
    """Work that can wait, done where it fits into what is left of a period, by what it took lately."""

    def __init__(self, work: Callable[[], object], *, clock: Callable[[], float] = time.monotonic):
        """Args:
        clock: In s; nobody may set it.
        """
        self.asked = False
        """Whether it is to be done."""
        self.done = self.put_off = 0
        self.longest = 0.0
        """That it took, in s."""
        self._work, self._clock, self._takes = work, clock, _Takes()

    def ask(self) -> None:
        """It is to be done, once."""
        self.asked = True

    def chance(self, left: float) -> bool:
        """Do it, if it is to be done and fits.

        Args:
            left: Time that nobody else needs, in s.

        Returns:
            Whether it was done.
        """
        if not self.asked:
            return False
        takes = self._takes.seconds
        if left < ROOM * takes and takes > LEAST:
            self.put_off += 1
            self._takes.fade()
            return False
        self.asked = False
        began = self._clock()
        self._work()
        took = self._clock() - began
        self._takes.add(took)
        self.longest = max(self.longest, took)
        self.done += 1
        return True
