"""Decides whether a step leaves out its optional parts, from the time that whole steps took lately."""

USUAL = 64
"""Steps over which is averaged how long a whole one takes."""


class Slack:
    """Whether a whole step still fits into what is left of a period, by what whole steps took lately."""

    def __init__(self) -> None:
        self.hurried = 0
        """Steps of which something was left out."""
        self._usual_ms = 0.0

    def lacks(self, left_ms: float) -> bool:
        """Whether what can be left out must be."""
        return self._usual_ms > left_ms

    def add(self, ms: float, *, hurried: bool) -> None:
        """A step was lived."""
        if hurried:
            self.hurried += 1
        # A hurried one says nothing of whole ones; without forgetting, one slow spell would have it hurry for ever.
        self._usual_ms += ((0.0 if hurried else ms) - self._usual_ms) / USUAL
