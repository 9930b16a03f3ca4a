"""Unusable transitions: counted by cause, and reported when they are frequent."""

from collections import deque

from wm_robot.streams.transition_assembler import StampedTransition

MIN_SHARE, MIN_COUNT = 0.1, 3
"""Share and count of the newest transitions from which a cause is reported."""
CAUSE_TEXTS = {
    "gap": "observations are missing: transitions span several periods of {0:g} ms and are not learned from. Is the "
    "plant, the network or this machine too slow?",
    "early": "observations have stamps closer together than the period of {0:g} ms and are not learned from. "
    "Does /clock run slowly or in coarse steps, or has the plant another rate?",
    "unpaired": "observations have no applied_command of the same stamp and are not learned from. Publish "
    "applied_command with the stamp of the observation that it led to, before it",
}
"""Cause → description with the next move."""


class UnusableTransitions:
    """Counters of the transitions that an agent could not learn from."""

    def __init__(self, period: float):
        """Args:
        period: Control period, in s.
        """
        self._texts = {cause: words.format(1e3 * period) for cause, words in CAUSE_TEXTS.items()}
        self.num_missed_periods = 0
        """Periods without an observation."""
        self._counts = dict.fromkeys(CAUSE_TEXTS, 0)
        self._recent_causes: deque[str] = deque(maxlen=max(MIN_COUNT, round(1 / period)))

    def count_transition(self, transition: StampedTransition) -> None:
        """Count one transition. Usable transitions are counted too; they have no cause."""
        self._recent_causes.append(transition.cause)
        if transition.cause:
            self._counts[transition.cause] += 1
            self.num_missed_periods += transition.num_missed

    def find_frequent_causes(self) -> dict[str, str]:
        """Return a sentence for each frequent cause since the last call, or in the last second."""
        new = list(self._recent_causes)
        self._recent_causes.clear()
        enough = max(MIN_SHARE * len(new), MIN_COUNT)
        return {cause: words for cause, words in self._texts.items() if new.count(cause) >= enough}

    def to_dict(self) -> dict[str, int]:
        """Return every cause with its count, including zeros, and the number of missed periods."""
        return {**self._counts, "missed_periods": self.num_missed_periods}
