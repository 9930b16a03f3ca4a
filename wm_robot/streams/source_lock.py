"""Source lock: locks a topic to one publisher."""

MAX_REJECTED = 64
"""Largest number of sources that are stored as rejected."""


class SourceLock:
    """Source lock: accepts the first source with a valid message, and no other until it is released.

    Alternating commands of two controllers are invalid, even if the commands of each are valid.
    """

    def __init__(self, *, block_rejected: bool):
        """Args:
        block_rejected: Whether a rejected source stays rejected after the followed one is released, until `reset`.
        """
        self.followed_source: bytes | None = None
        """Id of the followed source; None while any source may start."""
        self._block_rejected = block_rejected
        self._rejected: dict[bytes, None] = {}

    def rejects(self, source: bytes) -> bool:
        """Whether all messages of a source are rejected, independent of their content."""
        if source == self.followed_source or (self.followed_source is None and source not in self._rejected):
            return False
        if self._block_rejected:
            self._rejected[source] = None
            while len(self._rejected) > MAX_REJECTED:
                del self._rejected[next(iter(self._rejected))]
        return True

    def lock_to(self, source: bytes) -> None:
        """Lock to a source that sent a valid message, if no source is followed."""
        if self.followed_source is None:
            self.followed_source = source

    def switch_to(self, source: bytes) -> None:
        """Follow another source from now on."""
        self.followed_source = source
        self._rejected.pop(source, None)

    def release(self) -> None:
        """Release the followed source: it stopped publishing."""
        self.followed_source = None

    def reset(self) -> None:
        """Accept any source again, including rejected ones."""
        self.followed_source = None
        self._rejected.clear()
