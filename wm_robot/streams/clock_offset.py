"""Clock offset: how far the clock of a sender is behind that of this node, from stamps and arrivals."""

MAX_CLOCK_OFFSET = 0.05
"""Largest offset that is corrected, in s; larger ones are reported."""
MAX_DRIFT = 1e-3
"""Largest drift of a sender's clock, in s per s. A crystal has a tenth of it."""
MESSAGES_TO_REPORT = 10
"""Number of successive messages beyond the largest offset, from which it is reported."""


class ClockOffset:
    """Estimator of the offset of a sender's clock: the smallest recent arrival minus stamp, less the known delay.

    Messages are late by chance, and never early. So each gives an upper bound of the offset, which loosens with the
    drift that a clock may have.
    """

    def __init__(self, *, delay: float = 0.0):
        """Args:
        delay: Age of a reading when it arrives, in s.
        """
        self._delay, self._limit = round(delay * 1e9), round(MAX_CLOCK_OFFSET * 1e9)
        self.reset()

    def reset(self) -> None:
        """Discard all messages, as after a jump of this node's clock."""
        self._bound: int | None = None
        self._updated_at = self._newest = self._num_beyond = 0

    @property
    def offset(self) -> int:
        """Offset in ns, positive for a clock that is behind; 0 until a message is within the largest offset."""
        return 0 if self._bound is None else self._bound

    @property
    def reported_offset(self) -> float | None:
        """Offset that is too large to be corrected, in s; None if there is none."""
        return self._newest / 1e9 if self._num_beyond >= MESSAGES_TO_REPORT else None

    def add_message(self, stamp: int, arrival: int) -> None:
        """Add a message: its stamp, and its arrival by the clock of this node, in ns."""
        self._newest = arrival - stamp - self._delay
        if abs(self._newest) > self._limit:
            # No bound follows from it: a late message says nothing, and one false stamp would hold for long.
            self._num_beyond += 1
            return
        self._num_beyond = 0
        if self._bound is None:
            self._bound = self._newest
        else:
            loosened = self._bound + round(MAX_DRIFT * max(0, arrival - self._updated_at))
            self._bound = min(self._newest, loosened)
        self._updated_at = arrival
