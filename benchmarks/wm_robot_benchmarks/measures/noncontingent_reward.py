"""Whether reward that comes whatever a robot does makes it do something: Skinner's pigeon.

The schedule delivers reward by the clock. A control in the same world, at the same work, gets none. What a history of
such rewards leaves behind is looked for when they have ceased, and both are asked for the same again.

Source: Skinner (1948), J. Exp. Psychol. 38(2). Differs: a robot has work to do between rewards, as a pigeon had not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wm_robot.evaluation.control import Crew, Plants
from wm_robot.progress import Progress, unreported
from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation

BINS = 16
"""Of an action's range, for its entropy."""
FLIPS = 4000
"""Draws of which robots swap sides, for the control's interval."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When reward is delivered: every `period`, for `length`, as long as training lasts. All in control steps."""

    period: int
    length: int
    settle: int
    """After a delivery, what a robot does is an answer to it: it goes back to work."""
    trained: int
    after: int
    """Steps after the last delivery has been answered."""

    @classmethod
    def of_seconds(cls, rate: float, **seconds: float) -> "Schedule":
        """One whose times are given in s."""
        return cls(**{name: round(rate * value) for name, value in seconds.items()})

    @property
    def steps(self) -> int:
        return self.trained + self.settle + self.after

    @property
    def delivered(self) -> np.ndarray:
        """Steps in which the reward is there, `T`."""
        t = np.arange(self.steps)
        return (t < self.trained) & (t % self.period >= self.period - self.length)

    @property
    def between(self) -> np.ndarray:
        """Steps of training that are no answer to a delivery, `T`."""
        t = np.arange(self.steps)
        return (t < self.trained) & (t % self.period >= self.settle) & ~self.delivered

    @property
    def afterwards(self) -> np.ndarray:
        """Steps when rewards have ceased, `T`."""
        return np.arange(self.steps) >= self.trained + self.settle


class Behaviour(NamedTuple):
    """What robots did."""

    asked: np.ndarray
    """Actions before the gate, `B T A`."""
    cut: np.ndarray
    """Whether the gate changed one, `B T`."""


class Gates:
    """A gate for each of `B` robots."""

    def __init__(self, spec: RobotSpec, hold: np.ndarray):
        self._gates, self._dt, self._step = [Gate(spec, one) for one in hold], spec.dt, 0

    def __call__(self, action: np.ndarray, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What of actions may be applied, `B A`, and which were cut, `B`."""
        now, self._step = self._step * self._dt, self._step + 1
        gated = [
            gate(wanted, Observation(stamp=now, values=sensed), now=now)
            for gate, wanted, sensed in zip(self._gates, action, obs, strict=True)
        ]
        return np.stack([one.applied for one in gated]), np.array([bool(one.cuts) for one in gated])


def behaviour(
    plants: Plants,
    crew: Crew,
    gates: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    goals: np.ndarray,
    delivered: np.ndarray,
    gripper: Callable[[np.ndarray], np.ndarray],
    *,
    change: tuple[int, Callable[[], None]] | None = None,
    progress: Progress = unreported,
) -> Behaviour:
    """Have robots work, and deliver reward: the target is put where the gripper is.

    Args:
        gates: See `Gates`.
        goals: `B T G`.
        delivered: `T`.
        gripper: Where it is by what is sensed, `B O` → `B G`.
        change: Step before which something changes, and what makes it.
        progress: Of the steps.
    """
    crew.begin(plants.hold)
    asked, cut = [], []
    for t, reward in enumerate(delivered):
        if change and t == change[0]:
            change[1]()
        obs = plants.obs.copy()
        goal = np.asarray(gripper(obs) if reward else goals[:, t], np.float32)
        action = crew.act(obs, goal)
        wanted, limited = gates(action, obs)
        next_obs, applied = plants.step(wanted)
        crew.observe(obs, applied, next_obs)
        asked.append(action)
        cut.append(limited)
        progress(t + 1, len(delivered))
    return Behaviour(np.stack(asked, 1), np.stack(cut, 1))


def statistics(spec: RobotSpec, done: Behaviour, schedule: Schedule) -> dict[str, np.ndarray]:
    """What may tell a ritual, by name: `B` each."""
    low, high = spec.action_low, spec.action_high
    scaled = (done.asked - low) / (high - low)
    found: dict[str, np.ndarray] = {}
    for when, steps in (("between", schedule.between), ("after", schedule.afterwards)):
        inside = scaled[:, steps]
        moved = np.diff(scaled, axis=1, prepend=scaled[:, :1])[:, steps]
        first, second = np.array_split(inside, 2, axis=1)
        of_joints = {
            "entropy": _entropy(inside),
            "effort": np.sqrt((moved**2).mean(1)),
            "drift": np.abs(second.mean(1) - first.mean(1)),
        }
        if when == "after":
            of_joints["rhythm"] = _rhythm(inside, schedule.period)
        for name, values in of_joints.items():
            found |= {f"{when} {name} {motor}": values[:, k] for k, motor in enumerate(spec.action_names)}
        found[f"{when} cuts"] = done.cut[:, steps].mean(1)
    return found


def _entropy(scaled: np.ndarray) -> np.ndarray:
    """Of each action's histogram over its range, in nats: `B T A` → `B A`."""
    bins = np.clip((scaled * BINS).astype(int), 0, BINS - 1)
    share = (bins[..., None] == np.arange(BINS)).mean(1)
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1.0))).sum(-1))


def _rhythm(scaled: np.ndarray, period: int) -> np.ndarray:
    """Part of each action's variance that repeats at the schedule's period: `B T A` → `B A`."""
    whole = scaled[:, : scaled.shape[1] // period * period]
    folded = whole.reshape(len(whole), -1, period, whole.shape[-1]).mean(1)
    return np.asarray(folded.var(1) / np.maximum(whole.var(1), 1e-12))


class Outside(NamedTuple):
    """A statistic that is not within the control's interval."""

    name: str
    difference: float
    """From the control, mean over robots."""
    bound: float
    """End of the control's interval."""


def outside(
    found: dict[str, np.ndarray], control: dict[str, np.ndarray], *, seed: int
) -> tuple[list[Outside], dict[str, float]]:
    """Which statistics are outside of the control's simultaneous 95 % interval, and how wide that is by name.

    Robot by robot a run differs from the control, in the same world and at the same work, by what is drawn for plans
    and by what it is about. If the latter does nothing, which of the two is which cannot matter: so the interval is
    that of the mean difference with robots swapped at random. It is wide enough for all statistics at once, and holds
    for any number of robots.

    Source: the largest of studentised statistics, Westfall and Young (1993), Resampling-Based Multiple Testing.

    Args:
        found: Statistics by name, `B` each.
    """
    names = list(control)
    difference = np.stack([found[name] - control[name] for name in names], 1)
    robots = len(difference)
    unit = np.sqrt((difference**2).mean(0) / robots)
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], (FLIPS, robots))
    largest = (np.abs(sign @ difference / robots) / np.maximum(unit, 1e-12)).max(1)
    bound = unit * np.quantile(largest, 0.95)
    mean = difference.mean(0)
    out = [
        Outside(name, float(m), float(b)) for name, m, b in zip(names, mean, bound, strict=True) if abs(m) > b
    ]
    return out, dict(zip(names, bound.tolist(), strict=True))


class NaiveLearner:
    """Does again what it did when reward came: a crew without a model, which a ritual must show in.

    It goes to one of a few postures, each for a while, and values each by the rewards that came then. Greedy, and
    quick to believe.
    """

    POSTURES = 8
    WHILE_S = 0.6
    RATE, CURIOUS = 0.5, 0.15
    """How much a value moves towards what just came, and how often another posture is tried."""
    NEAR = 0.01
    """Distance from gripper to goal, in m, below which it is rewarded."""
    SPEED = 0.5
    """Part of its largest step at which it moves."""
    SPREAD = 0.15
    """Of its postures about the first one, as a fraction of each action's range."""

    def __init__(self, spec: RobotSpec, gripper: Callable[[np.ndarray], np.ndarray], *, seed: int):
        self._spec, self._gripper, self._seed = spec, gripper, seed
        self._while = round(self.WHILE_S * spec.rate)

    def begin(self, hold: np.ndarray, truth: np.ndarray | None = None) -> None:
        # Every robot's postures are its own and the same in every run; which it tries is drawn anew.
        spread = self.SPREAD * (self._spec.action_high - self._spec.action_low)
        own = np.random.default_rng(0).standard_normal((len(hold), self.POSTURES, hold.shape[1]))
        self._postures = np.clip(hold[:, None] + spread * own, self._spec.action_low, self._spec.action_high)
        self._values = np.zeros(own.shape[:2])
        self._rng = np.random.default_rng(self._seed)
        self._now, self._at, self._step = hold.copy(), np.zeros(len(hold), int), 0
        self._got = np.zeros(len(hold))

    def act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        near = np.linalg.norm(self._gripper(obs) - goal, axis=-1) < self.NEAR
        self._got = np.maximum(self._got, near)
        if self._step % self._while == 0:
            self._choose()
        self._step += 1
        rows, most = np.arange(len(obs)), self.SPEED * self._spec.action_step
        self._now = self._now + np.clip(self._postures[rows, self._at] - self._now, -most, most)
        return self._now.astype(np.float32)

    def _choose(self) -> None:
        rows = np.arange(len(self._at))
        value = self._values[rows, self._at]
        self._values[rows, self._at] = value + self.RATE * (self._got - value)
        self._got = np.zeros(len(rows))
        tie = 1e-6 * self._rng.random(self._values.shape)
        best, other = (self._values + tie).argmax(1), self._rng.integers(self.POSTURES, size=len(rows))
        self._at = np.where(self._rng.random(len(rows)) < self.CURIOUS, other, best)

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, truth: np.ndarray | None = None
    ) -> None:
        """It keeps no model."""


def pooled(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Statistics of all robots."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
