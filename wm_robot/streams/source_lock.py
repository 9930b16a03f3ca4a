"""Whom to hear on a topic where one alone may speak."""

MOST = 64
"""Sources that are remembered as refused."""


class OneSource:
    """The first that said something good is heard, and no other until it is gone.

    Two controllers that take turns are none, however good the commands of each are.
    """

    def __init__(self, *, wary: bool):
        """Args:
        wary: Who was refused once stays refused when the other is gone, until `forget`.
        """
        self.followed: bytes | None = None
        """Id of the source that is heard; None while anybody may begin."""
        self._wary = wary
        self._refused: dict[bytes, None] = {}

    def refuses(self, source: bytes) -> bool:
        """Whether what a source says does not count, whatever it is."""
        if source == self.followed or (self.followed is None and source not in self._refused):
            return False
        if self._wary:
            self._refused[source] = None
            while len(self._refused) > MOST:
                del self._refused[next(iter(self._refused))]
        return True

    def follow(self, source: bytes) -> None:
        """It said something good."""
        if self.followed is None:
            self.followed = source

    def hand_over(self, source: bytes) -> None:
        """Hear another from now on."""
        self.followed = source
        self._refused.pop(source, None)

    def gone(self) -> None:
        """The one that was heard says nothing any more."""
        self.followed = None

    def forget(self) -> None:
        """Anybody may begin, whatever was before."""
        self.followed = None
        self._refused.clear()
