"""Remote commands: a command source for a controller in another process, which answers observations by messages."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from wm_robot.control.histogram import Histogram
from wm_robot.spec import RobotSpec
from wm_robot.streams.command_buffer import CommandIntake
from wm_robot.streams.rejection import BadMessageError, Refusal
from wm_robot.types import Observation

KEPT = 16
"""Number of recent observations by whose stamps an answer is recognised."""
BROKEN = {Refusal.NOT_FINITE, Refusal.SIZE}
"""Rejections that only a broken controller causes. A command for another robot or another time is only ignored."""


class RemoteCommands:
    """A `CommandSource` that holds the last valid message of another process."""

    def __init__(
        self,
        spec: RobotSpec,
        hold: np.ndarray,
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
        self._servo = np.array([actuator.unit == "rad" for actuator in spec.actuators])
        self._max_age, self._timeout, self._clock = max_age, timeout, clock
        self.refused = self.broken = ""
        self.surprise: float | None = None
        self.overdue = False
        self.age_ms = math.nan
        """Age of the last command of this period on arrival; the plant resets it after each period."""
        self.latency = Histogram()
        """Age of each command on arrival, in ms."""
        self._agent_active = self._answering = False
        """Whether an agent reports that it acts, and whether its commands answer observations. Then each observation
        requires a command."""
        self._sent: deque[int] = deque(maxlen=KEPT)
        """Stamps of the last observations, in ns."""
        self._asked = False
        """Whether an observation was published in the last period: without one, no command is required."""
        self.begin(hold)

    def begin(self, hold: np.ndarray) -> None:
        """Restart from the action in force, `A`, as before the first command."""
        self.intake = CommandIntake(hold, servo=self._servo, max_age=self._max_age, timeout=self._timeout)
        self._command = np.array(hold, np.float32)

    def accept(self, action: np.ndarray, stamp: int, now: int, *, moment: int) -> None:
        """Store a command that is well-formed and timely.

        Args:
            action: Commanded action, `A`.
            stamp: Stamp of the observation that it answers, in ns.
            now: Current time, in ns on the same clock.
            moment: Current time, in ns on the monotonic clock.
        """
        self.intake.offer(action, stamp, now, moment=moment)
        self.age_ms = (now - stamp) / 1e6
        self.latency.add(self.age_ms)
        self._answering = stamp in self._sent

    def refuse(self, error: BadMessageError) -> None:
        """Count a malformed command. If only a broken controller sends such a command, the controller is disabled."""
        self.intake.refusals.add(error.reason)
        if error.reason in BROKEN:
            self.refused = f"a command was rejected: {error}"

    def update_agent(self, active: bool, fault: str) -> bool:
        """Process the status of an agent, and return whether the agent has just stopped.

        An agent that reports its stop is not late. If an error stopped it, that error becomes the fault. An agent
        that sends nothing more without a report is late.
        """
        stopped, self._agent_active = self._agent_active and not active, active
        if stopped:
            self.broken = fault and f"the agent stopped: {fault}"
            self._answering = False
            self.intake.end()
        return stopped

    def expect_answer(self, stamp: int) -> None:
        """Require a command for the observation of a stamp, in ns, which is being published."""
        self._sent.append(stamp)
        self._asked = True

    @property
    def started(self) -> bool:
        """Whether a valid command has arrived since the restart."""
        return self.intake.started

    @property
    def active(self) -> bool:
        """Whether commands arrive."""
        return self.intake.started and not self.intake.holding

    def begin_period(self) -> None:
        """Select the newest command for the coming period."""
        self._command = self.intake.take(self._clock())
        self.overdue = self._answering and self._asked and self.intake.silence > 0
        self._asked = False

    def clear(self) -> None:
        """See `CommandSource`."""
        self.refused, self.broken, self.surprise = "", "", None

    def command(self, obs: Observation | None) -> Any:
        """Return the command in force, `A`; it never raises."""
        return self._command
