"""Throttled log: writes one line per cause of a fault, independent of how often it occurs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

REPEAT_INTERVAL = 60.0
"""Time between two equal lines, in s."""
DESCRIPTION_INTERVAL = 1.0
"""Time between two descriptions of the same cause, in s."""
MAX_LINES = 4
"""Largest number of different lines about one cause within `REPEAT_INTERVAL`."""
ACTIVE_TIME = 3.0
"""Time after its last occurrence for which a cause is active, in s."""


@dataclass
class _CauseRecord:
    text: str = ""
    described_at: float = -REPEAT_INTERVAL
    last_seen: float = 0.0
    count: int = 0
    is_condition: bool = False
    logged_lines: dict[str, float] = field(default_factory=dict)
    """Line → time at which it was logged."""

    @property
    def text_with_count(self) -> str:
        return self.text if self.is_condition else f"{self.text} ({self.count} times so far)"


class ThrottledLog:
    """Throttled log: logs a cause at its first occurrence, counts it, and logs it again once a minute."""

    def __init__(self, write_line: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic):
        """Args:
        write_line: Function that writes one line.
        clock: Monotonic clock, in s.
        """
        self._write_line, self._clock = write_line, clock
        self._causes: dict[str, _CauseRecord] = {}

    def report_cause(self, cause: str, describe: Callable[[], str], *, is_condition: bool = False) -> None:
        """Count one occurrence of a cause, and log it if it is due.

        Args:
            cause: Name of the cause, from a small fixed set: each is stored permanently.
            describe: Returns the description; called at most once a second.
            is_condition: Whether it is a condition that is checked repeatedly, no event: its lines have no count.
        """
        now, known = self._clock(), self._causes.setdefault(cause, _CauseRecord(is_condition=is_condition))
        known.last_seen, known.count = now, known.count + 1
        if now - known.described_at < DESCRIPTION_INTERVAL:
            return
        known.text, known.described_at = describe(), now
        known.logged_lines = {
            line: then for line, then in known.logged_lines.items() if now - then < REPEAT_INTERVAL
        }
        if known.text not in known.logged_lines and len(known.logged_lines) < MAX_LINES:
            known.logged_lines[known.text] = now
            self._write_line(known.text if known.count == 1 else known.text_with_count)

    def list_active_causes(self) -> list[str]:
        """Return the active causes, one sentence for each."""
        return [known.text_with_count for known in self._causes.values() if self._is_active(known)]

    def describe_cause(self, cause: str) -> str:
        """Return the sentence of one cause, as in `list_active_causes`; empty if it is not active."""
        known = self._causes.get(cause)
        return known.text_with_count if known and self._is_active(known) else ""

    def _is_active(self, record: _CauseRecord) -> bool:
        return self._clock() - record.last_seen < ACTIVE_TIME
