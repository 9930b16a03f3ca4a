"""Unusable transitions: counted by cause, and reported when they are frequent."""

from collections import deque

from wm_robot.streams.transition_assembler import Lived

MANY, LEAST = 0.1, 3
"""Share and count of the newest transitions from which a cause is reported."""
WORDS = {
    "gap": "observations are missing: transitions span several periods of {0:g} ms and are not learned from. Is the "
    "plant, the network or this machine too slow?",
    "early": "observations have stamps closer together than the period of {0:g} ms and are not learned from. "
    "Does /clock run slowly or in coarse steps, or has the plant another rate?",
    "unpaired": "observations have no applied_command of the same stamp and are not learned from. Publish "
    "applied_command with the stamp of the observation that it led to, before it",
}
"""Cause → description with the next move."""


class Unlearned:
    """Counters of the transitions that an agent could not learn from."""

    def __init__(self, period: float):
        """Args:
        period: Control period, in s.
        """
        self._words = {cause: words.format(1e3 * period) for cause, words in WORDS.items()}
        self.missed = 0
        """Periods without an observation."""
        self._count = dict.fromkeys(WORDS, 0)
        self._new: deque[str] = deque(maxlen=max(LEAST, round(1 / period)))

    def add(self, lived: Lived) -> None:
        """Count one transition. Usable transitions are counted too; they have no cause."""
        self._new.append(lived.cause)
        if lived.cause:
            self._count[lived.cause] += 1
            self.missed += lived.missed

    def troubles(self) -> dict[str, str]:
        """Return a sentence for each frequent cause since the last call, or in the last second."""
        new = list(self._new)
        self._new.clear()
        enough = max(MANY * len(new), LEAST)
        return {cause: words for cause, words in self._words.items() if new.count(cause) >= enough}

    def to_dict(self) -> dict[str, int]:
        """Return every cause with its count, including zeros, and the number of missed periods."""
        return {**self._count, "missed_periods": self.missed}
