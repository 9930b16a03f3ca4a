"""Command buffer: holds the last valid command of a plant."""

import numpy as np

from wm_robot.streams.rejection import Refusal, Refusals, check_time


class CommandIntake:
    """Command buffer: holds the command in force for a plant.

    Without commands for `timeout`, a motor is released and a servo keeps its last target. With the measured pose as
    target, an arm would sag by the servo's deflection under load.
    """

    def __init__(self, hold: np.ndarray, *, servo: np.ndarray, max_age: float, timeout: float):
        """Args:
        hold: Command in force at the start, `A`.
        servo: Whether each actuator takes positions, bool `A`.
        max_age: Largest age of a command on arrival, in s.
        timeout: Time without commands after which the robot holds its position, in s.
        """
        self.refusals = Refusals()
        self.accepted = 0
        self.silent_periods = 0
        """Periods without a new command, since the first."""
        self.longest_silence = 0
        """Largest number of consecutive periods without a new command, since the first."""
        self._command, self._servo = np.array(hold, np.float32), servo
        self._max_age, self._timeout = round(max_age * 1e9), round(timeout * 1e9)
        self._last = self._arrived = self._silence = 0
        self._fresh = self._holding = False

    @property
    def started(self) -> bool:
        """Whether any valid command was received."""
        return self.accepted > 0

    @property
    def silence(self) -> int:
        """Consecutive periods without a new command, up to the last period."""
        return self._silence

    @property
    def holding(self) -> bool:
        """Whether the robot holds its position because commands have been missing for `timeout`."""
        return self._holding

    def untimely(self, stamp: int, now: int) -> Refusal | None:
        """Return why a command of that stamp is rejected, and count it; None if it is not. All in ns."""
        refusal = check_time(stamp, now, self._last, self._max_age)
        if refusal:
            self.refusals.add(refusal)
        return refusal

    def offer(self, action: np.ndarray, stamp: int, now: int, *, moment: int) -> Refusal | None:
        """Store a command. If it is rejected, return the reason and change nothing.

        Args:
            stamp: Stamp of the observation that the command answers, in ns.
            now: In ns on the same clock.
            moment: In ns on a monotonic clock.
        """
        refusal = self.untimely(stamp, now)
        if refusal:
            return refusal
        self._command, self._last, self._arrived = action, stamp, moment
        self._fresh, self._holding = True, False
        self.accepted += 1
        return None

    def take(self, moment: int) -> np.ndarray:
        """Return the command for the period that ends at `moment`, in ns on a monotonic clock."""
        if self.started and not self._fresh:
            self.silent_periods += 1
            self._silence += 1
            self.longest_silence = max(self.longest_silence, self._silence)
        if self._fresh:
            self._silence = 0
        self._fresh = False
        if self.started and not self._holding and moment - self._arrived > self._timeout:
            self.end()
        return self._command

    def end(self) -> None:
        """Hold the position until a new command arrives: the controller has disconnected."""
        self._holding = True
        self._command = np.where(self._servo, self._command, np.float32(0))
