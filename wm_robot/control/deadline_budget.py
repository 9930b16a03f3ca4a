"""Deadline budget: decides from recent run times whether a step leaves out its optional parts."""

AVERAGING_STEPS = 64
"""Number of steps over which the run time is averaged."""


class DeadlineBudget:
    """Comparison of the average run time of complete steps with the time that is left of a period."""

    def __init__(self) -> None:
        self.degraded_steps = 0
        """Number of steps that left out their optional parts."""
        self._average_ms = 0.0

    def is_exceeded(self, time_left_ms: float) -> bool:
        """Whether a complete step takes longer than the time that is left, in ms."""
        return self._average_ms > time_left_ms

    def add_step(self, duration_ms: float, *, degraded: bool) -> None:
        """Add the run time of a step, in ms."""
        if degraded:
            self.degraded_steps += 1
        # A degraded step does not measure a complete one. It counts as 0, so that the average decays; otherwise one
        # slow period would degrade all later steps.
        self._average_ms += ((0.0 if degraded else duration_ms) - self._average_ms) / AVERAGING_STEPS
