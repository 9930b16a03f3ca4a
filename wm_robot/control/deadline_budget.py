"""Deadline budget: decides from recent run times whether a step leaves out its optional parts."""

USUAL = 64
"""Number of steps over which the run time is averaged."""


class Slack:
    """Comparison of the average run time of complete steps with the time that is left of a period."""

    def __init__(self) -> None:
        self.hurried = 0
        """Number of steps that left out their optional parts."""
        self._usual_ms = 0.0

    def lacks(self, left_ms: float) -> bool:
        """Whether a complete step takes longer than the time that is left, in ms."""
        return self._usual_ms > left_ms

    def add(self, ms: float, *, hurried: bool) -> None:
        """Add the run time of a step, in ms."""
        if hurried:
            self.hurried += 1
        # A degraded step does not measure a complete one. It counts as 0, so that the average decays; otherwise one
        # slow period would degrade all later steps.
        self._usual_ms += ((0.0 if hurried else ms) - self._usual_ms) / USUAL
