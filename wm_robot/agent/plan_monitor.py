"""Plan monitor: compares predicted reward with received reward, and raises an alarm.

A planner selects actions with a high predicted reward. Where the model is wrong, it selects optimistic errors:
rewards that never follow, or that follow whatever the robot does.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.events import MAX_EVENTS, AgentEvent
from wm_robot.errors import ConfigError, check_at_least
from wm_robot.spec import RobotSpec
from wm_robot.tasks import Reward, make_reward

PredictStep = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""obs `K B O`, recent actions `K B R A`, action `K B A`: `K` moments, each of all robots → mean and log variance of
the next observation, `K B O` each."""
ACTION_TOLERANCE = 0.01
"""Share of a motor's largest step by which the applied action may differ from the planned one."""


@dataclass(frozen=True, kw_only=True)
class PlanMonitorConfig:
    """Config of the plan monitor: its window and the thresholds of the alarm."""

    window: int = 48
    """Number of consecutive plans that are scored together, each over its whole horizon."""
    alarm_threshold: float = 4.0
    """Standard errors by which the received reward must be below half of the predicted reward."""
    clear_threshold: float = 2.0
    """Standard errors below which the alarm ends, if the received reward also correlates with the predicted one."""
    confirm_scores: int = 8
    """Number of consecutive equal scores that raise or end the alarm."""

    def __post_init__(self) -> None:
        check_at_least(8, self, "window", section="plan_monitor")
        check_at_least(1, self, "confirm_scores", section="plan_monitor")
        if not 0 < self.clear_threshold <= self.alarm_threshold:
            raise ConfigError(
                f"plan_monitor.clear_threshold is {self.clear_threshold}; it must be above 0 and at most "
                f"alarm_threshold, {self.alarm_threshold}"
            )


@dataclass(frozen=True, kw_only=True)
class PlanScore:
    """Score of the plans in a window, `B` each. Rewards are means over the steps of a horizon."""

    predicted: np.ndarray
    """Predicted reward of the plans, above the predicted reward of holding still."""
    realised: np.ndarray
    """Received reward, above the predicted reward of holding still."""
    gap: np.ndarray
    """Standard errors by which the received reward is below half of the predicted one."""
    uncorrelated: np.ndarray
    """Whether less than half of the predicted reward follows: the shortfall correlates with the prediction, and most
    of all at zero time shift."""


class _RolloutStep(NamedTuple):
    """Step of a reference rollout or of the robot, with any batch axes."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    goal: np.ndarray


class _ReferenceRollout:
    """Reference rollout of a plan and of holding still, one step per period while the plan is executed."""

    def __init__(
        self,
        obs: np.ndarray,
        goals: np.ndarray,
        plan: np.ndarray,
        recent: np.ndarray,
        predict_step: PredictStep,
    ):
        self.is_excluded = np.zeros(len(obs), bool)
        self.observed_steps: list[_RolloutStep] = []
        self._predicted_steps: list[_RolloutStep] = []
        self._goals, self._predict_step = goals, predict_step
        self._actions = np.stack([plan, np.repeat(recent[:, -1:], plan.shape[1], 1)])
        self._rollout_state = np.stack([obs, obs]), np.stack([recent, recent])

    @property
    def is_complete(self) -> bool:
        return len(self.observed_steps) == self._actions.shape[2]

    def advance(self, generator: np.random.Generator) -> None:
        """Predict one step of both, with the same sensor noise, so that noise does not separate them."""
        k = len(self._predicted_steps)
        obs, recent = self._rollout_state
        action = self._actions[:, :, k]
        noise = generator.standard_normal(obs.shape[1:])
        mean, log_variance = self._predict_step(obs, recent, action)
        seen = mean + np.exp(0.5 * log_variance) * noise
        self._rollout_state = mean, np.concatenate([recent[:, :, 1:], action[:, :, None]], 2)
        goal = np.stack([self._goals[:, k]] * 2)
        self._predicted_steps.append(_RolloutStep(obs, action, seen, goal))

    def compute_rewards(self, reward: Reward) -> np.ndarray:
        """Compute the predicted reward of the plan, that of holding still, and the received reward: `3 B`."""
        # All at once: a reward of few elements takes as long as one of many.
        imagined, lived = (
            map(np.stack, zip(*each, strict=True)) for each in (self._predicted_steps, self.observed_steps)
        )
        both = (np.concatenate([one, other[:, None]], 1) for one, other in zip(imagined, lived, strict=True))
        return np.asarray(reward(*both)).mean(0)


class PlanMonitor:
    """Plan monitor of `B` agents; a robot has one.

    Predicted rewards are those of an observation sampled from the prediction, since near a goal noise alone costs
    reward. They are compared with the received reward at the goal of that time.
    """

    def __init__(
        self,
        spec: RobotSpec,
        *,
        task: str,
        config: PlanMonitorConfig | None = None,
        seed: int = 0,
    ):
        self.config = config or PlanMonitorConfig()
        self._reward: Reward = make_reward(spec, spec.find_task(task))
        self._action_tolerance = ACTION_TOLERANCE * spec.action_step
        self._seed = seed
        w = self.config.window
        self._shifts = (np.arange(w)[:, None] + np.arange(w)) % w
        self.events: deque[AgentEvent] = deque(maxlen=MAX_EVENTS)
        self.begin(1)

    def begin(self, num_rows: int) -> None:
        """Drop all plans and clear the alarm."""
        self.counts = {"plans": 0, "plans_excluded": 0, "alarms": 0, "alarm_steps": 0}
        self.is_alarmed = np.zeros(num_rows, bool)
        """Rows with an alarm."""
        self.score: PlanScore | None = None
        """Newest score; NaN and False for rows with fewer plans than a window."""
        self.events.clear()
        self._generator = np.random.default_rng(self._seed)
        self._step = 0
        self._plan_rewards = np.zeros((3, num_rows, self.config.window))
        self._num_plans = np.zeros(num_rows, int)
        self._num_equal_scores = np.zeros(num_rows, int)
        self._rollout: _ReferenceRollout | None = None
        self._complete_rollout: _ReferenceRollout | None = None
        """Completed rollout that is not scored yet."""
        self._last_request: tuple[np.ndarray, np.ndarray] | None = None
        """Observation and action of the newest plan."""
        self._is_advanced = True

    def on_plan(
        self,
        obs: Float[np.ndarray, "B O"],
        goals: Float[np.ndarray, "B H G"],
        plan: Float[np.ndarray, "B H A"],
        recent: Float[np.ndarray, "B R A"],
        predict_step: PredictStep,
        *,
        goal: Float[np.ndarray, "B G"],
    ) -> None:
        """Register the plan of a period and the outcome of the previous one; call it once per period.

        Args:
            goals: Predicted goal after each step of the plan.
            recent: Actions that reached the motors, the newest last.
            predict_step: Model with the present lifetime state.
        """
        current, applied = self._rollout if self._is_advanced else None, recent[:, -1]
        if current is not None and self._last_request is not None:
            before, asked = self._last_request
            current.is_excluded |= (np.abs(applied - asked) > self._action_tolerance).any(1)
            current.observed_steps.append(_RolloutStep(before, applied, obs, goal))
            if current.is_complete:
                self._complete_rollout, current = current, None
        self._rollout = current or _ReferenceRollout(obs, goals, plan, recent, predict_step)
        self._last_request, self._is_advanced = (obs, plan[:, 0]), False
        self.counts["alarm_steps"] += int(self.is_alarmed.sum())

    def advance(self) -> None:
        """Advance the reference rollout by one step and score a completed plan. Call it after sending the command."""
        if self._is_advanced:
            # A period without a plan: another controller acts.
            self._rollout = None
        self._is_advanced = True
        self._step += 1
        if self._complete_rollout is not None:
            self._store_rewards(self._complete_rollout)
            self._complete_rollout = None
        if self._rollout is not None:
            self._rollout.advance(self._generator)

    def skip(self) -> None:
        """Replace `advance` when time is short: drop the present plan; a completed plan is scored later."""
        self._is_advanced, self._rollout = True, None
        self._step += 1

    def invalidate(self) -> None:
        """Exclude the present plan from scoring, because of an invalid transition."""
        if self._rollout is not None:
            self._rollout.is_excluded[:] = True

    def _store_rewards(self, done: _ReferenceRollout) -> None:
        rows = np.flatnonzero(~done.is_excluded)
        self.counts["plans"] += len(rows)
        self.counts["plans_excluded"] += int(done.is_excluded.sum())
        at = self._num_plans[rows] % self.config.window
        self._plan_rewards[:, rows, at] = done.compute_rewards(self._reward)[:, rows]
        self._num_plans[rows] += 1
        self._update_score(rows)

    def _update_score(self, rows: np.ndarray) -> None:
        """Score the windows of rows with a new plan."""
        c = self.config
        promised, staying, got = self._plan_rewards
        effect, kept = promised - staying, got - staying
        short = effect / 2 - kept
        deviation = short.std(1) / np.sqrt(c.window)
        gap = short.mean(1) / np.maximum(deviation, 1e-12)
        # Shift 0 is the true order. A shift keeps the correlation between successive plans.
        around = (effect - effect.mean(1, keepdims=True))[:, self._shifts]
        with_shift = np.einsum("bsw,bw->bs", around, short)
        insensitive = (with_shift[:, 0] > 0) & (with_shift.argmax(1) == 0)
        full = self._num_plans >= c.window
        self.score = PlanScore(
            predicted=np.where(full, effect.mean(1), np.nan),
            realised=np.where(full, kept.mean(1), np.nan),
            gap=np.where(full, gap, np.nan),
            uncorrelated=full & insensitive,
        )
        self._update_alarms(rows[full[rows]])

    def _update_alarms(self, rows: np.ndarray) -> None:
        """Raise or end alarms, where enough consecutive scores agree."""
        assert self.score is not None
        c, gap, insensitive = self.config, self.score.gap, self.score.uncorrelated
        broken = (gap > c.alarm_threshold) | (insensitive & (gap > c.clear_threshold))
        for life in rows.tolist():
            other = (
                ~insensitive[life] & (gap[life] < c.clear_threshold)
                if self.is_alarmed[life]
                else broken[life]
            )
            self._num_equal_scores[life] = self._num_equal_scores[life] + 1 if other else 0
            if self._num_equal_scores[life] == c.confirm_scores:
                self._num_equal_scores[life], self.is_alarmed[life] = 0, not self.is_alarmed[life]
                self.counts["alarms"] += int(self.is_alarmed[life])
                self.events.append(AgentEvent(self._step, life, self._describe_score(life)))

    def _describe_score(self, row: int) -> str:
        """Describe the score of a row."""
        assert self.score is not None
        if not self.is_alarmed[row]:
            return "received reward matches the plans again"
        promised, kept, gap = (
            float(found[row]) for found in (self.score.predicted, self.score.realised, self.score.gap)
        )
        follows = ", and is uncorrelated with it" if self.score.uncorrelated[row] else ""
        return (
            f"plans predicted {promised:.2g} of reward per step above holding still; received reward is {kept:.2g} "
            f"({gap:.1f} standard errors below half){follows}"
        )
