"""Whether plans keep what they promise: reward predicted against reward got, and an alarm.

A planner looks for actions of which its model says that they pay. Where the model is wrong it finds the errors that
flatter: rewards that never come, or that come whatever the robot does.
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
"""Part of a motor's largest step by which what was applied may differ from what was planned."""


@dataclass(frozen=True, kw_only=True)
class ExploitationConfig:
    """When plans count as broken promises."""

    window: int = 48
    """Plans that are judged together, one after another, each over its whole horizon."""
    gap: float = 4.0
    """Deviations of the mean by which plans must have brought less than half of what they promised."""
    calm: float = 2.0
    """Below this many the alarm ends, if reward also follows what plans promise."""
    last: int = 8
    """Judgements in a row that must agree, for the alarm to be raised or ended."""

    def __post_init__(self) -> None:
        check_at_least(8, self, "window", part="exploitation")
        check_at_least(1, self, "last", part="exploitation")
        if not 0 < self.calm <= self.gap:
            raise ConfigError(f"exploitation.calm is {self.calm}; it must be above 0 and at most {self.gap}")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is found of the plans in a window, `B` each. Rewards are means over the steps of a horizon."""

    promised: np.ndarray
    """Predicted reward of the plans above that of staying."""
    kept: np.ndarray
    """Reward that was got above the predicted one of staying."""
    gap: np.ndarray
    """Deviations of its mean by which the reward is worse than half-way from staying to what was promised."""
    insensitive: np.ndarray
    """Whether the reward follows what plans promise by less than half: of all ways to lay the one beside the other,
    shifted in time, the true one speaks most against it."""


class _Moment(NamedTuple):
    """A step, of which there may be many side by side."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    goal: np.ndarray


class _Foresight:
    """A plan, and beside it to stay, imagined a step at a time while the plan is carried out."""

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
        """One step on. Both are seen through the same sensor noise, so that it does not tell them apart."""
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
        """What was promised, what staying was to bring, and what was got: `3 B`."""
        # All at once, since a reward of few numbers takes as long as one of many.
        imagined, lived = (map(np.stack, zip(*each, strict=True)) for each in (self._imagined, self.lived))
        both = (np.concatenate([one, other[:, None]], 1) for one, other in zip(imagined, lived, strict=True))
        return np.asarray(reward(*both)).mean(0)


class Exploitation:
    """Watches the plans of `B` lives side by side; a robot has one.

    Predicted rewards are those of an observation drawn from what is expected, since near a goal noise alone costs
    reward; they are compared with what is got at the goal as it then is.
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
        """Forget all plans; the alarm is off."""
        self.counts = {"plans": 0, "broken_off": 0, "alarms": 0, "alarmed": 0}
        self.alarmed = np.zeros(lives, bool)
        """Lives whose plans are not to be believed."""
        self.judged: Judged | None = None
        """The last judgement; NaN and False for lives with fewer plans than a window."""
        self.events.clear()
        self._generator = np.random.default_rng(self._seed)
        self._step = 0
        self._plans = np.zeros((3, lives, self.config.window))
        self._count = np.zeros(lives, int)
        self._agreed = np.zeros(lives, int)
        self._foresight: _Foresight | None = None
        self._done: _Foresight | None = None
        """One that is over and not judged yet."""
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
        """Robots are at `obs` and `goal`, and will act by a plan; call it once a period.

        Args:
            goals: Expected after each step of the plan.
            recent: What reached the motors, the newest last.
            expect: The model with the life as it is now.
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
        """Go on with the plan under way, and judge one that is over; for the time between two observations."""
        if self._lived:
            # A period without a plan: somebody else acts.
            self._foresight = None
        self._lived = True
        self._step += 1
        if self._done is not None:
            self._keep(self._done)
            self._done = None
        if self._foresight is not None:
            self._foresight.imagine(self._generator)

    def forgo(self) -> None:
        """In place of `imagine`, when time is short: the plan under way is not judged, one that is over is later."""
        self._lived, self._foresight = True, None
        self._step += 1

    def doubt(self) -> None:
        """The plan under way is not to be judged: something came between."""
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
        """Look at the windows of lives of which a plan was just kept."""
        c = self.config
        promised, staying, got = self._plans
        effect, kept = promised - staying, got - staying
        short = effect / 2 - kept
        deviation = short.std(1) / np.sqrt(c.window)
        gap = short.mean(1) / np.maximum(deviation, 1e-12)
        # Shift 0 is as it happened. Shifting keeps what is alike from plan to plan.
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
        """Raise or end alarms, where enough judgements in a row agree."""
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
        """What was found, in words."""
        assert self.judged is not None
        if not self.alarmed[life]:
            return "plans keep what they promise again"
        promised, kept, gap = (
            float(found[life]) for found in (self.judged.promised, self.judged.kept, self.judged.gap)
        )
        follows = ", nor does reward follow what they promise" if self.judged.insensitive[life] else ""
        return (
            f"plans promised {promised:.2g} of reward a step above staying and brought {kept:.2g} "
            f"({gap:.1f} deviations below half){follows}"
        )
