"""Throttled log: writes one line per cause of a fault, independent of how often it occurs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

AGAIN = 60.0
"""Time between two equal lines, in s."""
REFRESH = 1.0
"""Time between two descriptions of the same cause, in s."""
MOST = 4
"""Largest number of different lines about one cause within `AGAIN`."""
RECENT = 3.0
"""Time after its last occurrence for which a cause is active, in s."""


@dataclass
class _Cause:
    words: str = ""
    asked: float = -AGAIN
    met: float = 0.0
    count: int = 0
    lasting: bool = False
    told: dict[str, float] = field(default_factory=dict)
    """Line → time at which it was logged."""

    @property
    def counted(self) -> str:
        return self.words if self.lasting else f"{self.words} ({self.count} times so far)"


class Complaints:
    """Throttled log: logs a cause at its first occurrence, counts it, and logs it again once a minute."""

    def __init__(self, say: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic):
        """Args:
        say: Function that writes one line.
        clock: Monotonic clock, in s.
        """
        self._say, self._clock = say, clock
        self._causes: dict[str, _Cause] = {}

    def add(self, cause: str, words: Callable[[], str], *, lasting: bool = False) -> None:
        """Count one occurrence of a cause, and log it if it is due.

        Args:
            cause: Name of the cause, from a small fixed set: each is stored permanently.
            words: Returns the description; called at most once a second.
            lasting: Whether it is a condition that is checked repeatedly, and not an event: its lines have no count.
        """
        now, known = self._clock(), self._causes.setdefault(cause, _Cause(lasting=lasting))
        known.met, known.count = now, known.count + 1
        if now - known.asked < REFRESH:
            return
        known.words, known.asked = words(), now
        known.told = {line: then for line, then in known.told.items() if now - then < AGAIN}
        if known.words not in known.told and len(known.told) < MOST:
            known.told[known.words] = now
            self._say(known.words if known.count == 1 else known.counted)

    def present(self) -> list[str]:
        """Return the active causes, one sentence for each."""
        return [known.counted for known in self._causes.values() if self._recent(known)]

    def sentence(self, cause: str) -> str:
        """Return the sentence of one cause, as in `list_active_causes`; empty if it is not active."""
        known = self._causes.get(cause)
        return known.counted if known and self._recent(known) else ""

    def _recent(self, known: _Cause) -> bool:
        return self._clock() - known.met < RECENT
