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

from wm_robot.adaptation.events import EVENTS, Event
from wm_robot.errors import ConfigError, check_at_least
from wm_robot.spec import RobotSpec
from wm_robot.tasks import Reward, reward_of

Expect = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""obs `K B O`, recent actions `K B R A`, action `K B A`: `K` moments, each of all robots → mean and log variance of
the next observation, `K B O` each."""
FOLLOWED = 0.01
"""Share of a motor's largest step by which the applied action may differ from the planned one."""


@dataclass(frozen=True, kw_only=True)
class ExploitationConfig:
    """Config of the plan monitor: its window and the thresholds of the alarm."""

    window: int = 48
    """Number of consecutive plans that are scored together, each over its whole horizon."""
    gap: float = 4.0
    """Standard errors by which the received reward must be below half of the predicted reward."""
    calm: float = 2.0
    """Standard errors below which the alarm ends, if the received reward also correlates with the predicted one."""
    last: int = 8
    """Number of consecutive equal scores that raise or end the alarm."""

    def __post_init__(self) -> None:
        check_at_least(8, self, "window", part="exploitation")
        check_at_least(1, self, "last", part="exploitation")
        if not 0 < self.calm <= self.gap:
            raise ConfigError(f"exploitation.calm is {self.calm}; it must be above 0 and at most {self.gap}")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Score of the plans in a window, `B` each. Rewards are means over the steps of a horizon."""

    promised: np.ndarray
    """Predicted reward of the plans, above the predicted reward of holding still."""
    kept: np.ndarray
    """Received reward, above the predicted reward of holding still."""
    gap: np.ndarray
    """Standard errors by which the received reward is below half of the predicted one."""
    insensitive: np.ndarray
    """Whether less than half of the predicted reward follows: the shortfall correlates with the prediction, and most
    of all at zero time shift."""


class _Moment(NamedTuple):
    """Step of a reference rollout or of the robot, with any batch axes."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    goal: np.ndarray


class _Foresight:
    """Reference rollout of a plan and of holding still, one step per period while the plan is executed."""

    def __init__(
        self, obs: np.ndarray, goals: np.ndarray, plan: np.ndarray, recent: np.ndarray, expect: Expect
    ):
        self.broken = np.zeros(len(obs), bool)
        self.lived: list[_Moment] = []
        self._imagined: list[_Moment] = []
        self._goals, self._expect = goals, expect
        self._actions = np.stack([plan, np.repeat(recent[:, -1:], plan.shape[1], 1)])
        self._at = np.stack([obs, obs]), np.stack([recent, recent])

    @property
    def over(self) -> bool:
        return len(self.lived) == self._actions.shape[2]

    def imagine(self, generator: np.random.Generator) -> None:
        """Predict one step of both, with the same sensor noise, so that noise does not separate them."""
        k = len(self._imagined)
        obs, recent = self._at
        action = self._actions[:, :, k]
        noise = generator.standard_normal(obs.shape[1:])
        mean, log_variance = self._expect(obs, recent, action)
        seen = mean + np.exp(0.5 * log_variance) * noise
        self._at = mean, np.concatenate([recent[:, :, 1:], action[:, :, None]], 2)
        goal = np.stack([self._goals[:, k]] * 2)
        self._imagined.append(_Moment(obs, action, seen, goal))

    def rewards(self, reward: Reward) -> np.ndarray:
        """Compute the predicted reward of the plan, that of holding still, and the received reward: `3 B`."""
        # All at once: a reward of few elements takes as long as one of many.
        imagined, lived = (map(np.stack, zip(*each, strict=True)) for each in (self._imagined, self.lived))
        both = (np.concatenate([one, other[:, None]], 1) for one, other in zip(imagined, lived, strict=True))
        return np.asarray(reward(*both)).mean(0)


class Exploitation:
    """Plan monitor of `B` agents; a robot has one.

    Predicted rewards are those of an observation sampled from the prediction, since near a goal noise alone costs
    reward. They are compared with the received reward at the goal of that time.
    """

    def __init__(
        self,
        spec: RobotSpec,
        *,
        task: str,
        config: ExploitationConfig | None = None,
        seed: int = 0,
    ):
        self.config = config or ExploitationConfig()
        self._reward: Reward = reward_of(spec, spec.task(task))
        self._far = FOLLOWED * spec.action_step
        self._seed = seed
        w = self.config.window
        self._shifts = (np.arange(w)[:, None] + np.arange(w)) % w
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.begin(1)

    def begin(self, lives: int) -> None:
        """Drop all plans and clear the alarm."""
        self.counts = {"plans": 0, "broken_off": 0, "alarms": 0, "alarmed": 0}
        self.alarmed = np.zeros(lives, bool)
        """Rows with an alarm."""
        self.judged: Judged | None = None
        """Newest score; NaN and False for rows with fewer plans than a window."""
        self.events.clear()
        self._generator = np.random.default_rng(self._seed)
        self._step = 0
        self._plans = np.zeros((3, lives, self.config.window))
        self._count = np.zeros(lives, int)
        self._agreed = np.zeros(lives, int)
        self._foresight: _Foresight | None = None
        self._done: _Foresight | None = None
        """Completed rollout that is not scored yet."""
        self._asked: tuple[np.ndarray, np.ndarray] | None = None
        """Observation and action of the newest plan."""
        self._lived = True

    def planned(
        self,
        obs: Float[np.ndarray, "B O"],
        goals: Float[np.ndarray, "B H G"],
        plan: Float[np.ndarray, "B H A"],
        recent: Float[np.ndarray, "B R A"],
        expect: Expect,
        *,
        goal: Float[np.ndarray, "B G"],
    ) -> None:
        """Register the plan of a period and the outcome of the previous one; call it once per period.

        Args:
            goals: Predicted goal after each step of the plan.
            recent: Actions that reached the motors, the newest last.
            predict_step: Model with the present lifetime state.
        """
        current, applied = self._foresight if self._lived else None, recent[:, -1]
        if current is not None and self._asked is not None:
            before, asked = self._asked
            current.broken |= (np.abs(applied - asked) > self._far).any(1)
            current.lived.append(_Moment(before, applied, obs, goal))
            if current.over:
                self._done, current = current, None
        self._foresight = current or _Foresight(obs, goals, plan, recent, expect)
        self._asked, self._lived = (obs, plan[:, 0]), False
        self.counts["alarmed"] += int(self.alarmed.sum())

    def imagine(self) -> None:
        """Advance the reference rollout by one step and score a completed plan. Call it after sending the command."""
        if self._lived:
            # A period without a plan: another controller acts.
            self._foresight = None
        self._lived = True
        self._step += 1
        if self._done is not None:
            self._keep(self._done)
            self._done = None
        if self._foresight is not None:
            self._foresight.imagine(self._generator)

    def forgo(self) -> None:
        """Replace `advance` when time is short: drop the present plan; a completed plan is scored later."""
        self._lived, self._foresight = True, None
        self._step += 1

    def doubt(self) -> None:
        """Exclude the present plan from scoring, because of an invalid transition."""
        if self._foresight is not None:
            self._foresight.broken[:] = True

    def _keep(self, done: _Foresight) -> None:
        rows = np.flatnonzero(~done.broken)
        self.counts["plans"] += len(rows)
        self.counts["broken_off"] += int(done.broken.sum())
        at = self._count[rows] % self.config.window
        self._plans[:, rows, at] = done.rewards(self._reward)[:, rows]
        self._count[rows] += 1
        self._judge(rows)

    def _judge(self, rows: np.ndarray) -> None:
        """Score the windows of rows with a new plan."""
        c = self.config
        promised, staying, got = self._plans
        effect, kept = promised - staying, got - staying
        short = effect / 2 - kept
        deviation = short.std(1) / np.sqrt(c.window)
        gap = short.mean(1) / np.maximum(deviation, 1e-12)
        # Shift 0 is the true order. A shift keeps the correlation between successive plans.
        around = (effect - effect.mean(1, keepdims=True))[:, self._shifts]
        with_shift = np.einsum("bsw,bw->bs", around, short)
        insensitive = (with_shift[:, 0] > 0) & (with_shift.argmax(1) == 0)
        full = self._count >= c.window
        self.judged = Judged(
            promised=np.where(full, effect.mean(1), np.nan),
            kept=np.where(full, kept.mean(1), np.nan),
            gap=np.where(full, gap, np.nan),
            insensitive=full & insensitive,
        )
        self._decide(rows[full[rows]])

    def _decide(self, rows: np.ndarray) -> None:
        """Raise or end alarms, where enough consecutive scores agree."""
        assert self.judged is not None
        c, gap, insensitive = self.config, self.judged.gap, self.judged.insensitive
        broken = (gap > c.gap) | (insensitive & (gap > c.calm))
        for life in rows.tolist():
            other = ~insensitive[life] & (gap[life] < c.calm) if self.alarmed[life] else broken[life]
            self._agreed[life] = self._agreed[life] + 1 if other else 0
            if self._agreed[life] == c.last:
                self._agreed[life], self.alarmed[life] = 0, not self.alarmed[life]
                self.counts["alarms"] += int(self.alarmed[life])
                self.events.append(Event(self._step, life, self._told(life)))

    def _told(self, life: int) -> str:
        """Describe the score of a row."""
        assert self.judged is not None
        if not self.alarmed[life]:
            return "received reward matches the plans again"
        promised, kept, gap = (
            float(found[life]) for found in (self.judged.promised, self.judged.kept, self.judged.gap)
        )
        follows = ", and is uncorrelated with it" if self.judged.insensitive[life] else ""
        return (
            f"plans predicted {promised:.2g} of reward per step above holding still; received reward is {kept:.2g} "
            f"({gap:.1f} standard errors below half){follows}"
        )
