"""Agent loop: the control step of an agent that learns while it acts.

The order matters. The plan starts from the observation and from the actions that are on their way to the motors.
After the command was sent, the agent learns from the transition that led to the observation. So the command waits
for the plan alone, and the lifetime state that the plan reads is one control period old.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from wm_robot.control.deadline_budget import Slack
from wm_robot.control.histogram import Histogram
from wm_robot.control.period_log import Period
from wm_robot.spec import RobotSpec
from wm_robot.streams.transition_assembler import Lived


@runtime_checkable
class HasLikelihood(Protocol):
    """Comparison of an observation with its prediction, as an agent returns it."""

    @property
    def nll(self) -> float:
        """Negative log-likelihood, nats per channel."""


AnySurprise = TypeVar("AnySurprise", bound=HasLikelihood)
AnySurprise_co = TypeVar("AnySurprise_co", bound=HasLikelihood, covariant=True)


@runtime_checkable
class LearningAgent(Protocol[AnySurprise_co]):
    """An agent that acts on an observation and learns from a transition."""

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """Return the next action, `A`, for observation `O` and goal `G`.

        Args:
            applied: Action that reached the motors on the way to `obs`, `A`, if that transition follows later.
        """

    def live(
        self,
        obs: np.ndarray,
        applied: np.ndarray,
        next_obs: np.ndarray,
        *,
        valid: bool = True,
        contact: bool = False,
        hurry: bool = False,
    ) -> AnySurprise_co:
        """Update the lifetime state with one transition; see `Agent.observe`."""


class AgentLoop(Generic[AnySurprise]):
    """Control steps of one agent, with their deadline budget and their run times.

    An error in a step stops the agent: `active` becomes false, `fault` holds the reason.
    """

    def __init__(
        self,
        agent: LearningAgent[AnySurprise],
        spec: RobotSpec,
        *,
        send: Callable[[int, np.ndarray], object],
        learned: Callable[[Lived, AnySurprise], object] = lambda transition, surprise: None,
        failed: Callable[[Exception], object] = lambda error: None,
        log: Callable[[Period], object] | None = None,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """Args:
        send: Sends an action, `A`, as the answer to the observation of a stamp, in ns.
        on_update: Called after each transition that the agent learned from or counted as invalid.
        on_error: Called with the error that stopped the agent.
        log: Called with the log entry of every step.
        clock: Clock of the stamps, in ns.
        monotonic: Clock of the due times of observations, in s.
        """
        self._agent, self._spec, self._send = agent, spec, send
        self._learned, self._failed, self._log = learned, failed, log
        self._clock, self._monotonic = clock, monotonic
        self._due = 0.0
        """Earliest time at which the next observation may arrive, in s."""
        self.active = False
        """Whether the agent acts."""
        self.trouble = ""
        """Error that stopped the agent; empty if none did."""
        self.acted = 0
        """Number of actions that were sent."""
        self.surprise: float | None = None
        """Surprise of the newest transition, in nats per channel."""
        self.latency, self.act_time, self.learn_time = Histogram(), Histogram(), Histogram()
        """Times from stamp to command, of planning, and of learning from a transition; in ms."""
        self.slack = Slack()

    def start(self) -> None:
        """Start acting at the next observation."""
        self.active, self.trouble = True, ""

    def stop(self) -> None:
        """Stop acting."""
        self.active = False

    def run_guarded(self, work: Callable[..., object], *arguments: Any) -> None:
        """Run a part of a step with its arguments; an error stops the agent."""
        try:
            work(*arguments)
        except Exception as error:
            self.active = False
            self.trouble = f"{type(error).__name__}: {error}"
            self._failed(error)

    def step(self, stamp: int, obs: np.ndarray, goal: np.ndarray | None, ready: Sequence[Lived]) -> None:
        """Act on an observation, then learn from the transition that led to it.

        Args:
            stamp: Stamp of the observation, in ns.
            goal: Goal of the task, `G`. None: the agent only learns.
            ready: Complete transitions, the oldest first. All but the newest are learned before the action.

        Raises:
            FloatingPointError: If an action or a surprise is not finite.
        """
        for transition in ready[:-1]:
            self.learn(transition)
        newest = ready[-1] if ready else None
        if goal is not None:
            self._act(stamp, obs, goal, None if newest is None else newest.applied)
        if newest is not None:
            self.learn(newest, hurry=goal is not None and self.slack.lacks(self._left_ms))
        if self._log is not None:
            self._log(self._period(stamp, acted=goal is not None, learned=newest is not None))

    def learn(self, transition: Lived, *, hurry: bool = False) -> None:
        """Learn from one transition.

        Args:
            skip_optional: Leave out the optional parts, because the next observation is due soon.

        Raises:
            FloatingPointError: If the surprise is not finite.
        """
        began = self._clock()
        surprise = self._agent.live(
            transition.obs,
            transition.applied,
            transition.next_obs,
            valid=transition.valid,
            contact=transition.contact,
            hurry=hurry,
        )
        if not np.isfinite(surprise.nll):
            raise FloatingPointError(f"surprise is {surprise.nll}")
        self.surprise = float(surprise.nll)
        self.learn_time.add((self._clock() - began) / 1e6)
        self.slack.add(self.learn_time.last_ms, hurried=hurry)
        self._learned(transition, surprise)

    def expect_observation(self, due: float) -> None:
        """Set the earliest time of the next observation, in s of the monotonic clock."""
        self._due = due

    def time_left(self) -> float:
        """Return the time until the next observation is due, in s.

        It is infinite if the observation is late by a whole period, or if the agent does not act.
        """
        left = self._due - self._monotonic()
        return left if self.active and left >= -self._spec.dt else math.inf

    def _act(self, stamp: int, obs: np.ndarray, goal: np.ndarray, applied: np.ndarray | None) -> None:
        began = self._clock()
        action = self._agent.act(obs, goal, applied=applied)
        finite = np.isfinite(action)
        if not finite.all():
            names = [self._spec.action_names[i] for i in np.flatnonzero(~finite)]
            raise FloatingPointError(f"the action of {names} is not finite")
        self._send(stamp, action)
        now = self._clock()
        self.acted += 1
        self.act_time.add((now - began) / 1e6)
        self.latency.add((now - stamp) / 1e6)

    @property
    def _left_ms(self) -> float:
        """Time from the last command to the next observation, in ms."""
        return 1e3 * self._spec.dt - self.latency.last_ms

    def _period(self, stamp: int, *, acted: bool, learned: bool) -> Period:
        """Return the log entry of a step; values that the step did not compute are NaN."""
        return Period(
            stamp=stamp,
            latency_ms=self.latency.last_ms if acted else math.nan,
            act_ms=self.act_time.last_ms if acted else math.nan,
            live_ms=self.learn_time.last_ms if learned else math.nan,
            surprise=math.nan if not learned or self.surprise is None else self.surprise,
        )
