"""Commands of a controller in another process, which answers observations with messages."""

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
"""Observations whose answers are told from other commands."""
BROKEN = {Refusal.NOT_FINITE, Refusal.SIZE}
"""What only a broken controller sends; a command for another robot, or of another time, is merely not used."""


class RemoteCommands:
    """A `CommandSource` that holds the last good message of another process."""

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
        hold: Action in force, `A`; see `begin`.
        max_age: Oldest command that is used on arrival, in s.
        timeout: Silence after which the controller counts as gone, in s.
        clock: In ns; nobody may set it.
        """
        self._servo = np.array([actuator.unit == "rad" for actuator in spec.actuators])
        self._max_age, self._timeout, self._clock = max_age, timeout, clock
        self.refused = self.broken = ""
        self.surprise: float | None = None
        self.overdue = False
        self.age_ms = math.nan
        """Age of the last command of this period when it came; see `reset_age`."""
        self.latency = Histogram()
        """Age of each command when it came, in ms."""
        self._agent_active = self._answering = False
        """Whether an agent reported that it acts, and whether commands answer observations: then each is owed one."""
        self._sent: deque[int] = deque(maxlen=KEPT)
        """Stamps of the last observations, in ns."""
        self._asked = False
        """Whether an observation was published in the last period: without one, no answer is owed."""
        self.begin(hold)

    def begin(self, hold: np.ndarray) -> None:
        """Begin from an action in force, `A`, as if no command had ever come."""
        self.intake = CommandIntake(hold, servo=self._servo, max_age=self._max_age, timeout=self._timeout)
        self._command = np.array(hold, np.float32)

    # What arrives

    def accept(self, action: np.ndarray, stamp: int, now: int, *, moment: int) -> None:
        """Take a command that is neither malformed nor untimely.

        Args:
            action: `A`.
            stamp: Of the observation that it answers, in ns.
            now: In ns on the same clock.
            moment: In ns on the clock that nobody sets.
        """
        self.intake.offer(action, stamp, now, moment=moment)
        self.age_ms = (now - stamp) / 1e6
        self.latency.add(self.age_ms)
        self._answering = stamp in self._sent

    def refuse(self, error: BadMessageError) -> None:
        """Count a malformed command. One that only a broken controller sends ends its turn."""
        self.intake.refusals.add(error.reason)
        if error.reason in BROKEN:
            self.refused = f"a command was refused: {error}"

    def update_agent(self, active: bool, fault: str) -> bool:
        """Take what an agent reports of itself; whether it has just stopped.

        An agent that stops in order is not late, and its fault is the reason if it stops by an error. One that falls
        silent without a report is late.
        """
        stopped, self._agent_active = self._agent_active and not active, active
        if stopped:
            self.broken = fault and f"the agent stopped: {fault}"
            self._answering = False
            self.intake.end()
        return stopped

    def expect_answer(self, stamp: int) -> None:
        """An observation of that stamp, in ns, is being published."""
        self._sent.append(stamp)
        self._asked = True

    # What the arbiter reads

    @property
    def started(self) -> bool:
        """Whether a good command has ever come."""
        return self.intake.started

    @property
    def active(self) -> bool:
        """Whether commands come."""
        return self.intake.started and not self.intake.holding

    def begin_period(self) -> None:
        """Take the newest command."""
        self._command = self.intake.take(self._clock())
        self.overdue = self._answering and self._asked and self.intake.silence > 0
        self._asked = False

    def clear(self) -> None:
        """See `CommandSource`."""
        self.refused, self.broken, self.surprise = "", "", None

    def command(self, obs: Observation | None) -> Any:
        """The command in force, `A`; it never raises."""
        return self._command
