"""Source lock: locks a topic to one publisher."""

MOST = 64
"""Largest number of sources that are stored as rejected."""


class OneSource:
    """Source lock: accepts the first source with a valid message, and no other until it is released.

    Alternating commands of two controllers are invalid, even if the commands of each are valid.
    """

    def __init__(self, *, wary: bool):
        """Args:
        wary: Whether a rejected source stays rejected after the followed one is released, until `reset`.
        """
        self.followed: bytes | None = None
        """Id of the followed source; None while any source may start."""
        self._wary = wary
        self._refused: dict[bytes, None] = {}

    def refuses(self, source: bytes) -> bool:
        """Whether all messages of a source are rejected, independent of their content."""
        if source == self.followed or (self.followed is None and source not in self._refused):
            return False
        if self._wary:
            self._refused[source] = None
            while len(self._refused) > MOST:
                del self._refused[next(iter(self._refused))]
        return True

    def follow(self, source: bytes) -> None:
        """Lock to a source that sent a valid message, if no source is followed."""
        if self.followed is None:
            self.followed = source

    def hand_over(self, source: bytes) -> None:
        """Follow another source from now on."""
        self.followed = source
        self._refused.pop(source, None)

    def gone(self) -> None:
        """Release the followed source: it stopped publishing."""
        self.followed = None

    def forget(self) -> None:
        """Accept any source again, including rejected ones."""
        self.followed = None
        self._refused.clear()
