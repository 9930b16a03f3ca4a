"""Remote commands: a command source for a controller in another process, which answers observations by messages."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from wm_robot.control.histogram import Histogram
from wm_robot.spec import RobotSpec
from wm_robot.streams.command_buffer import CommandBuffer
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot.types import Observation

NUM_RECENT_STAMPS = 16
"""Number of recent observations by whose stamps an answer is recognised."""
FAULT_REASONS = {RejectionReason.NOT_FINITE, RejectionReason.SIZE}
"""Rejections that only a broken controller causes. A command for another robot or another time is only ignored."""


class RemoteCommands:
    """A `CommandSource` that holds the last valid message of another process."""

    def __init__(
        self,
        spec: RobotSpec,
        last_action: np.ndarray,
        *,
        max_age: float,
        timeout: float,
        clock: Callable[[], int] = time.monotonic_ns,
    ):
        """Args:
        last_action: Action in force, `A`; see `restart_from`.
        max_age: Largest age of a command on arrival that is accepted, in s.
        timeout: Time without commands after which the controller counts as absent, in s.
        clock: Monotonic clock, in ns.
        """
        self._servo = np.array([actuator.is_servo for actuator in spec.actuators])
        self._max_age, self._timeout, self._clock = max_age, timeout, clock
        self.rejection = self.fault = ""
        self.surprise: float | None = None
        self.is_overdue = False
        self.age_ms = math.nan
        """Age of the last command of this period on arrival; the plant resets it after each period."""
        self.latency = Histogram()
        """Age of each command on arrival, in ms."""
        self._agent_active = self._answers_observations = False
        """Whether an agent reports that it acts, and whether its commands answer observations. Then each observation
        requires a command."""
        self._sent_stamps: deque[int] = deque(maxlen=NUM_RECENT_STAMPS)
        """Stamps of the last observations, in ns."""
        self._observation_sent = False
        """Whether an observation was published in the last period: without one, no command is required."""
        self.restart_from(last_action)

    def restart_from(self, last_action: np.ndarray) -> None:
        """Restart from the action in force, `A`, as before the first command."""
        self.buffer = CommandBuffer(
            last_action, is_servo=self._servo, max_age=self._max_age, timeout=self._timeout
        )
        self._command = np.array(last_action, np.float32)

    def accept_command(self, action: np.ndarray, stamp: int, now: int, *, monotonic_now: int) -> None:
        """Store a command that is well-formed and timely.

        Args:
            action: Commanded action, `A`.
            stamp: Stamp of the observation that it answers, in ns.
            now: Current time, in ns on the same clock.
            monotonic_now: Current time, in ns on the monotonic clock.
        """
        self.buffer.offer_command(action, stamp, now, time=monotonic_now)
        self.age_ms = (now - stamp) / 1e6
        self.latency.add_duration(self.age_ms)
        self._answers_observations = stamp in self._sent_stamps

    def reject_command(self, error: BadMessageError) -> None:
        """Count a malformed command. If only a broken controller sends such a command, the controller is disabled."""
        self.buffer.rejections.count_rejection(error.reason)
        if error.reason in FAULT_REASONS:
            self.rejection = f"a command was rejected: {error}"

    def update_agent(self, active: bool, fault: str) -> bool:
        """Process the status of an agent, and return whether the agent has just stopped.

        An agent that reports its stop is not late. If an error stopped it, that error becomes the fault. An agent
        that sends nothing more without a report is late.
        """
        stopped, self._agent_active = self._agent_active and not active, active
        if stopped:
            self.fault = fault and f"the agent stopped: {fault}"
            self._answers_observations = False
            self.buffer.hold_position()
        return stopped

    def expect_answer(self, stamp: int) -> None:
        """Require a command for the observation of a stamp, in ns, which is being published."""
        self._sent_stamps.append(stamp)
        self._observation_sent = True

    @property
    def has_started(self) -> bool:
        """Whether a valid command has arrived since the restart."""
        return self.buffer.has_started

    @property
    def is_active(self) -> bool:
        """Whether commands arrive."""
        return self.buffer.has_started and not self.buffer.is_holding

    def start_period(self) -> None:
        """Select the newest command for the coming period."""
        self._command = self.buffer.take_command(self._clock())
        self.is_overdue = (
            self._answers_observations and self._observation_sent and self.buffer.num_silent_periods > 0
        )
        self._observation_sent = False

    def clear_reports(self) -> None:
        """See `CommandSource`."""
        self.rejection, self.fault, self.surprise = "", "", None

    def select_command(self, obs: Observation | None) -> Any:
        """Return the command in force, `A`; it never raises."""
        return self._command
