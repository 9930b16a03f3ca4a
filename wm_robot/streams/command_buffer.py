"""Which command is in force: the last good one, and none that is doubtful."""

import numpy as np

from wm_robot.streams.rejection import Refusal, Refusals, check_time


class CommandIntake:
    """Holds the command in force for a plant.

    Without commands for `timeout`, a motor is released and a servo keeps its last target: handing
    over to the measured pose would let an arm sag by what its servo gives under load.
    """

    def __init__(self, hold: np.ndarray, *, servo: np.ndarray, max_age: float, timeout: float):
        """Args:
        hold: Command in force at the start, `A`.
        servo: Which actuators take positions, bool `A`.
        max_age: Oldest command that is used on arrival, in s.
        timeout: Silence after which the robot holds its position, in s.
        """
        self.refusals = Refusals()
        self.accepted = 0
        self.silent_periods = 0
        """Periods without a new command, since the first."""
        self.longest_silence = 0
        """Most periods in a row without a new command, since the first."""
        self._command, self._servo = np.array(hold, np.float32), servo
        self._max_age, self._timeout = round(max_age * 1e9), round(timeout * 1e9)
        self._last = self._arrived = self._silence = 0
        self._fresh = self._holding = False

    @property
    def started(self) -> bool:
        """Whether a good command has ever come."""
        return self.accepted > 0

    @property
    def silence(self) -> int:
        """Periods in a row without a new command, up to the last."""
        return self._silence

    @property
    def holding(self) -> bool:
        """Whether commands have been missing for so long that the robot holds its position."""
        return self._holding

    def untimely(self, stamp: int, now: int) -> Refusal | None:
        """Why a command of that stamp is refused, whatever it says; counted. In ns, as `offer` has them."""
        refusal = check_time(stamp, now, self._last, self._max_age)
        if refusal:
            self.refusals.add(refusal)
        return refusal

    def offer(self, action: np.ndarray, stamp: int, now: int, *, moment: int) -> Refusal | None:
        """Take a command; with a reason it is refused and changes nothing.

        Args:
            stamp: Of the observation that it answers, in ns.
            now: In ns on the same clock.
            moment: In ns on a clock that nobody sets.
        """
        refusal = self.untimely(stamp, now)
        if refusal:
            return refusal
        self._command, self._last, self._arrived = action, stamp, moment
        self._fresh, self._holding = True, False
        self.accepted += 1
        return None

    def take(self, moment: int) -> np.ndarray:
        """The command for one period that ends at a moment, in ns on a clock that nobody sets."""
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
        """Hold the position until there is a new command: whoever commanded is gone."""
        self._holding = True
        self._command = np.where(self._servo, self._command, np.float32(0))
