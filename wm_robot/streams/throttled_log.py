"""What is wrong with what others send: each cause in one line, however often it is met."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

AGAIN = 60.0
"""From one line to the next that says the same, in s."""
REFRESH = 1.0
"""From one look at what exactly is wrong to the next, in s."""
MOST = 4
"""Different lines about one cause, within `AGAIN`."""
RECENT = 3.0
"""For so long after it was last met a cause is wrong now, in s."""


@dataclass
class _Cause:
    words: str = ""
    asked: float = -AGAIN
    met: float = 0.0
    count: int = 0
    lasting: bool = False
    told: dict[str, float] = field(default_factory=dict)
    """Line → when it was said."""

    @property
    def counted(self) -> str:
        return self.words if self.lasting else f"{self.words} ({self.count} times so far)"


class Complaints:
    """Says what is wrong when it begins, keeps count while it lasts, and says it again once a minute."""

    def __init__(self, say: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic):
        """Args:
        say: Gets a line.
        clock: In s; nobody may set it.
        """
        self._say, self._clock = say, clock
        self._causes: dict[str, _Cause] = {}

    def add(self, cause: str, words: Callable[[], str], *, lasting: bool = False) -> None:
        """A cause was met.

        Args:
            cause: Few, and known: each is remembered for ever.
            words: What exactly is wrong; asked for once a second at most.
            lasting: It is a condition that was looked at again, and no event: the lines do not count it.
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
        """What is wrong now, a sentence for each cause."""
        return [known.counted for known in self._causes.values() if self._recent(known)]

    def sentence(self, cause: str) -> str:
        """What is wrong now by one cause, as `present` has it; empty if nothing is."""
        known = self._causes.get(cause)
        return known.counted if known and self._recent(known) else ""

    def _recent(self, known: _Cause) -> bool:
        return self._clock() - known.met < RECENT
