"""Command buffer: holds the last valid command of a plant."""

import numpy as np

from wm_robot.streams.rejection import RejectionCounters, RejectionReason, check_stamp


class CommandBuffer:
    """Command buffer: holds the command in force for a plant.

    Without commands for `timeout`, a motor is released and a servo keeps its last target. With the measured pose as
    target, an arm would sag by the servo's deflection under load.
    """

    def __init__(self, initial_action: np.ndarray, *, is_servo: np.ndarray, max_age: float, timeout: float):
        """Args:
        initial_action: Command in force at the start, `A`.
        is_servo: Whether each actuator takes positions, bool `A`.
        max_age: Largest age of a command on arrival, in s.
        timeout: Time without commands after which the robot holds its position, in s.
        """
        self.rejections = RejectionCounters()
        self.num_accepted = 0
        self.silent_periods = 0
        """Periods without a new command, since the first."""
        self.longest_silence = 0
        """Largest number of consecutive periods without a new command, since the first."""
        self._command, self._servo = np.array(initial_action, np.float32), is_servo
        self._max_age, self._timeout = round(max_age * 1e9), round(timeout * 1e9)
        self._last_stamp = self._arrived_at = self._num_silent = 0
        self._is_new = self._is_holding = False

    @property
    def has_started(self) -> bool:
        """Whether any valid command was received."""
        return self.num_accepted > 0

    @property
    def num_silent_periods(self) -> int:
        """Consecutive periods without a new command, up to the last period."""
        return self._num_silent

    @property
    def is_holding(self) -> bool:
        """Whether the robot holds its position because commands have been missing for `timeout`."""
        return self._is_holding

    def reject_untimely(self, stamp: int, now: int) -> RejectionReason | None:
        """Return why a command of that stamp is rejected, and count it; None if it is not. All in ns."""
        refusal = check_stamp(stamp, now, self._last_stamp, self._max_age)
        if refusal:
            self.rejections.count_rejection(refusal)
        return refusal

    def offer_command(self, action: np.ndarray, stamp: int, now: int, *, time: int) -> RejectionReason | None:
        """Store a command. If it is rejected, return the reason and change nothing.

        Args:
            stamp: Stamp of the observation that the command answers, in ns.
            now: In ns on the same clock.
            time: In ns on a monotonic clock.
        """
        refusal = self.reject_untimely(stamp, now)
        if refusal:
            return refusal
        self._command, self._last_stamp, self._arrived_at = action, stamp, time
        self._is_new, self._is_holding = True, False
        self.num_accepted += 1
        return None

    def take_command(self, time: int) -> np.ndarray:
        """Return the command for the period that ends at `moment`, in ns on a monotonic clock."""
        if self.has_started and not self._is_new:
            self.silent_periods += 1
            self._num_silent += 1
            self.longest_silence = max(self.longest_silence, self._num_silent)
        if self._is_new:
            self._num_silent = 0
        self._is_new = False
        if self.has_started and not self._is_holding and time - self._arrived_at > self._timeout:
            self.hold_position()
        return self._command

    def hold_position(self) -> None:
        """Hold the position until a new command arrives: the controller has disconnected."""
        self._is_holding = True
        self._command = np.where(self._servo, self._command, np.float32(0))
