"""Transitions that cannot be learned from: counted by cause, and reported where they are many."""

from collections import deque

from wm_robot.streams.transition_assembler import Lived

MANY, LEAST = 0.1, 3
"""Part and number of the newest transitions from which on a cause is reported."""
WORDS = {
    "gap": "observations are missing: transitions span several periods of {0:g} ms and are not learned from. Is the "
    "plant, the network or this machine too slow?",
    "early": "observations follow one another, by their stamps, faster than the period of {0:g} ms and are not "
    "learned from. Does /clock run slowly or in coarse steps, or has the plant another rate?",
    "unpaired": "observations have no applied_command of the same stamp and are not learned from. Publish "
    "applied_command with the stamp of the observation that it led to, before it",
}
"""Cause → what it means, and the next move."""


class Unlearned:
    """Counts what an agent could not learn from."""

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
        """Count one transition; also those that were learned from, which have no cause."""
        self._new.append(lived.cause)
        if lived.cause:
            self._count[lived.cause] += 1
            self.missed += lived.missed

    def troubles(self) -> dict[str, str]:
        """A sentence for each cause of many of the transitions since the last time, or of the last second."""
        new = list(self._new)
        self._new.clear()
        enough = max(MANY * len(new), LEAST)
        return {cause: words for cause, words in self._words.items() if new.count(cause) >= enough}

    def to_dict(self) -> dict[str, int]:
        """Every cause with its count, zeros included, and the periods that were missed."""
        return {**self._count, "missed_periods": self.missed}
