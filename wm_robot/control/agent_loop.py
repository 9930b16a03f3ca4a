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

from wm_robot.control.deadline_budget import DeadlineBudget
from wm_robot.control.histogram import Histogram
from wm_robot.control.period_log import PeriodRecord
from wm_robot.spec import RobotSpec
from wm_robot.streams.transition_assembler import StampedTransition


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

    def observe(
        self,
        obs: np.ndarray,
        applied: np.ndarray,
        next_obs: np.ndarray,
        *,
        valid: bool = True,
        intervention: bool = False,
        skip_optional: bool = False,
        is_new: np.ndarray | None = None,
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
        on_update: Callable[[StampedTransition, AnySurprise], object] = lambda transition, surprise: None,
        on_error: Callable[[Exception], object] = lambda error: None,
        log: Callable[[PeriodRecord], object] | None = None,
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
        self._on_update, self._on_error, self._log = on_update, on_error, log
        self._clock, self._monotonic = clock, monotonic
        self._next_due = 0.0
        """Earliest time at which the next observation may arrive, in s."""
        self.active = False
        """Whether the agent acts."""
        self.fault = ""
        """Error that stopped the agent; empty if none did."""
        self.num_actions = 0
        """Number of actions that were sent."""
        self._has_acted = False
        self.surprise: float | None = None
        """Surprise of the newest transition, in nats per channel."""
        self.latency, self.act_time, self.learn_time = Histogram(), Histogram(), Histogram()
        """Times from stamp to command, of planning, and of learning from a transition; in ms."""
        self.deadline_budget = DeadlineBudget()

    @property
    def has_acted(self) -> bool:
        """Whether an action was sent since the start."""
        return self._has_acted

    def start(self) -> None:
        """Start acting at the next observation."""
        self.active, self.fault, self._has_acted = True, "", False

    def stop(self) -> None:
        """Stop acting."""
        self.active = False

    def run_guarded(self, work: Callable[..., object], *arguments: Any) -> None:
        """Run a part of a step with its arguments; an error stops the agent."""
        try:
            work(*arguments)
        except Exception as error:
            self.active = False
            self.fault = f"{type(error).__name__}: {error}"
            self._on_error(error)

    def run_step(
        self, stamp: int, obs: np.ndarray, goal: np.ndarray | None, transitions: Sequence[StampedTransition]
    ) -> None:
        """Act on an observation, then learn from the transition that led to it.

        Args:
            stamp: Stamp of the observation, in ns.
            goal: Goal of the task, `G`. None: the agent only learns.
            transitions: Complete transitions, the oldest first. All but the newest are learned before the action.

        Raises:
            FloatingPointError: If an action or a surprise is not finite.
        """
        for transition in transitions[:-1]:
            self.learn_transition(transition)
        newest = transitions[-1] if transitions else None
        if goal is not None:
            self._send_action(stamp, obs, goal, None if newest is None else newest.applied)
        if newest is not None:
            self.learn_transition(
                newest,
                skip_optional=goal is not None and self.deadline_budget.is_exceeded(self._time_left_ms),
            )
        if self._log is not None:
            self._log(self._make_log_entry(stamp, acted=goal is not None, learned=newest is not None))

    def learn_transition(self, transition: StampedTransition, *, skip_optional: bool = False) -> None:
        """Learn from one transition.

        Args:
            skip_optional: Leave out the optional parts, because the next observation is due soon.

        Raises:
            FloatingPointError: If the surprise is not finite.
        """
        began = self._clock()
        surprise = self._agent.observe(
            transition.obs,
            transition.applied,
            transition.next_obs,
            valid=transition.valid,
            intervention=transition.intervention,
            skip_optional=skip_optional,
            # A robot that nothing moved yet may be held, with readings that stay as they are: they are not frozen.
            is_new=transition.is_new if self._has_acted else np.zeros(transition.next_obs.shape, bool),
        )
        if not np.isfinite(surprise.nll):
            raise FloatingPointError(f"surprise is {surprise.nll}")
        self.surprise = float(surprise.nll)
        self.learn_time.add_duration((self._clock() - began) / 1e6)
        self.deadline_budget.add_step(self.learn_time.last_ms, degraded=skip_optional)
        self._on_update(transition, surprise)

    def expect_observation(self, due: float) -> None:
        """Set the earliest time of the next observation, in s of the monotonic clock."""
        self._next_due = due

    def time_left(self) -> float:
        """Return the time until the next observation is due, in s.

        It is infinite if the observation is late by a whole period, or if the agent does not act.
        """
        left = self._next_due - self._monotonic()
        return left if self.active and left >= -self._spec.dt else math.inf

    def _send_action(self, stamp: int, obs: np.ndarray, goal: np.ndarray, applied: np.ndarray | None) -> None:
        began = self._clock()
        action = self._agent.act(obs, goal, applied=applied)
        finite = np.isfinite(action)
        if not finite.all():
            names = [self._spec.action_names[i] for i in np.flatnonzero(~finite)]
            raise FloatingPointError(f"the action of {names} is not finite")
        self._send(stamp, action)
        now = self._clock()
        self.num_actions += 1
        self._has_acted = True
        self.act_time.add_duration((now - began) / 1e6)
        self.latency.add_duration((now - stamp) / 1e6)

    @property
    def _time_left_ms(self) -> float:
        """Time from the last command to the next observation, in ms."""
        return 1e3 * self._spec.dt - self.latency.last_ms

    def _make_log_entry(self, stamp: int, *, acted: bool, learned: bool) -> PeriodRecord:
        """Return the log entry of a step; values that the step did not compute are NaN."""
        return PeriodRecord(
            stamp=stamp,
            latency_ms=self.latency.last_ms if acted else math.nan,
            act_ms=self.act_time.last_ms if acted else math.nan,
            learn_ms=self.learn_time.last_ms if learned else math.nan,
            surprise=math.nan if not learned or self.surprise is None else self.surprise,
        )
