"""Noncontingent reward: tests whether reward independent of behaviour changes the behaviour of a robot.

The schedule delivers reward by the clock. A control in the same world, with the same task, gets none. Effects of such
rewards are measured after they have ended, when both have the same task again.

Source: Skinner (1948), J. Exp. Psychol. 38(2), on pigeons. Differs: a robot has a task between rewards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wm_robot.evaluation.control import EvaluatedAgents, EvaluatedPlants
from wm_robot.progress import Progress, ignore_progress
from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation

BINS = 16
"""Histogram bins over an action's range, for its entropy."""
FLIPS = 4000
"""Number of random swaps of robots between run and control, for the control's interval."""


@dataclass(frozen=True, kw_only=True)
class RewardSchedule:
    """Reward schedule: a reward every `period`, for `length`, during training. All in control steps."""

    period: int
    length: int
    settle: int
    """Steps after a delivery in which the robot responds to it and returns to its task."""
    trained: int
    after: int
    """Steps after the response to the last delivery."""

    @classmethod
    def from_seconds(cls, rate: float, **seconds: float) -> "RewardSchedule":
        """Make a schedule from times in s."""
        return cls(**{name: round(rate * value) for name, value in seconds.items()})

    @property
    def num_steps(self) -> int:
        return self.trained + self.settle + self.after

    @property
    def is_delivered(self) -> np.ndarray:
        """Whether the reward is present at each step, `T`."""
        t = np.arange(self.num_steps)
        return (t < self.trained) & (t % self.period >= self.period - self.length)

    @property
    def is_between(self) -> np.ndarray:
        """Whether each step is in training and no response to a delivery, `T`."""
        t = np.arange(self.num_steps)
        return (t < self.trained) & (t % self.period >= self.settle) & ~self.is_delivered

    @property
    def is_after(self) -> np.ndarray:
        """Whether each step is after the end of the rewards, `T`."""
        return np.arange(self.num_steps) >= self.trained + self.settle


class RecordedBehaviour(NamedTuple):
    """Recorded behaviour of robots."""

    actions: np.ndarray
    """Actions before the gate, `B T A`."""
    is_limited: np.ndarray
    """Whether the gate changed one, `B T`."""


class GateBatch:
    """Batch of action gates, one for each of `B` robots."""

    def __init__(self, spec: RobotSpec, initial_action: np.ndarray):
        self._gates, self._dt, self._step = [Gate(spec, one) for one in initial_action], spec.dt, 0

    def __call__(self, action: np.ndarray, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the applied actions, `B A`, and which of them the gate limited, `B`."""
        now, self._step = self._step * self._dt, self._step + 1
        gated = [
            gate(wanted, Observation(stamp=now, values=sensed), now=now)
            for gate, wanted, sensed in zip(self._gates, action, obs, strict=True)
        ]
        return np.stack([one.applied for one in gated]), np.array([bool(one.violations) for one in gated])


def record_behaviour(
    plants: EvaluatedPlants,
    crew: EvaluatedAgents,
    gates: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    goals: np.ndarray,
    is_delivered: np.ndarray,
    locate_gripper: Callable[[np.ndarray], np.ndarray],
    *,
    change: tuple[int, Callable[[], None]] | None = None,
    progress: Progress = ignore_progress,
) -> RecordedBehaviour:
    """Run robots on their task and deliver rewards: the target is moved to the gripper.

    Args:
        gates: See `GateBatch`.
        goals: `B T G`.
        is_delivered: `T`.
        locate_gripper: Gripper position from the observation, `B O` → `B G`.
        change: Step before which a change happens, and the function that makes it.
        progress: Progress over the steps.
    """
    crew.begin(plants.last_action)
    asked, cut = [], []
    for t, reward in enumerate(is_delivered):
        if change and t == change[0]:
            change[1]()
        obs = plants.obs.copy()
        goal = np.asarray(locate_gripper(obs) if reward else goals[:, t], np.float32)
        action = crew.act(obs, goal)
        wanted, limited = gates(action, obs)
        next_obs, applied = plants.step(wanted)
        crew.observe(obs, applied, next_obs)
        asked.append(action)
        cut.append(limited)
        progress(t + 1, len(is_delivered))
    return RecordedBehaviour(np.stack(asked, 1), np.stack(cut, 1))


def compute_ritual_statistics(
    spec: RobotSpec, behaviour: RecordedBehaviour, schedule: RewardSchedule
) -> dict[str, np.ndarray]:
    """Compute statistics that may show a ritual, by name, `B` each."""
    low, high = spec.action_low, spec.action_high
    scaled = (behaviour.actions - low) / (high - low)
    found: dict[str, np.ndarray] = {}
    for when, steps in (("between", schedule.is_between), ("after", schedule.is_after)):
        inside = scaled[:, steps]
        moved = np.diff(scaled, axis=1, prepend=scaled[:, :1])[:, steps]
        first, second = np.array_split(inside, 2, axis=1)
        of_joints = {
            "entropy": _compute_entropy(inside),
            "effort": np.sqrt((moved**2).mean(1)),
            "drift": np.abs(second.mean(1) - first.mean(1)),
        }
        if when == "after":
            of_joints["rhythm"] = _compute_rhythm(inside, schedule.period)
        for name, values in of_joints.items():
            found |= {f"{when} {name} {motor}": values[:, k] for k, motor in enumerate(spec.action_names)}
        found[f"{when} cuts"] = behaviour.is_limited[:, steps].mean(1)
    return found


def _compute_entropy(scaled: np.ndarray) -> np.ndarray:
    """Compute the entropy of each action's histogram over its range, in nats: `B T A` → `B A`."""
    bins = np.clip((scaled * BINS).astype(int), 0, BINS - 1)
    share = (bins[..., None] == np.arange(BINS)).mean(1)
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1.0))).sum(-1))


def _compute_rhythm(scaled: np.ndarray, period: int) -> np.ndarray:
    """Compute the share of each action's variance that repeats at the schedule's period: `B T A` → `B A`."""
    whole = scaled[:, : scaled.shape[1] // period * period]
    folded = whole.reshape(len(whole), -1, period, whole.shape[-1]).mean(1)
    return np.asarray(folded.var(1) / np.maximum(whole.var(1), 1e-12))


class OutsideStatistic(NamedTuple):
    """Statistic outside the control's interval."""

    name: str
    difference: float
    """Difference from the control, mean over robots."""
    bound: float
    """End of the control's interval."""


def find_outside_statistics(
    statistics: dict[str, np.ndarray], control: dict[str, np.ndarray], *, seed: int
) -> tuple[list[OutsideStatistic], dict[str, float]]:
    """Return the statistics outside the control's simultaneous 95 % interval, and its width by name.

    Each robot has the same world and task in run and control; they differ by the planner's random numbers and by the
    tested condition. If the condition has no effect, run and control are exchangeable. So the interval is that of the
    mean difference with robots swapped at random. It holds for all statistics at once, and for any number of robots.

    Source: the largest of studentised statistics, Westfall and Young (1993), Resampling-Based Multiple Testing.

    Args:
        statistics: Statistics by name, `B` each.
    """
    names = list(control)
    difference = np.stack([statistics[name] - control[name] for name in names], 1)
    robots = len(difference)
    unit = np.sqrt((difference**2).mean(0) / robots)
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], (FLIPS, robots))
    largest = (np.abs(sign @ difference / robots) / np.maximum(unit, 1e-12)).max(1)
    bound = unit * np.quantile(largest, 0.95)
    mean = difference.mean(0)
    out = [
        OutsideStatistic(name, float(m), float(b))
        for name, m, b in zip(names, mean, bound, strict=True)
        if abs(m) > b
    ]
    return out, dict(zip(names, bound.tolist(), strict=True))


class NaiveLearner:
    """Naive learner: repeats the behaviour before a reward, without a model. It must show a ritual.

    It moves to one of a few postures, each for some time, and values each by the rewards in that time. It is greedy,
    with a high learning rate.
    """

    POSTURES = 8
    WHILE_S = 0.6
    RATE, CURIOUS = 0.5, 0.15
    """Learning rate of the values, and rate at which another posture is tried."""
    NEAR = 0.01
    """Distance from gripper to goal below which it is rewarded, in m."""
    SPEED = 0.5
    """Speed, as a fraction of its largest step."""
    SPREAD = 0.15
    """Spread of its postures about the first one, as a fraction of each action's range."""

    def __init__(self, spec: RobotSpec, locate_gripper: Callable[[np.ndarray], np.ndarray], *, seed: int):
        self._spec, self._gripper, self._seed = spec, locate_gripper, seed
        self._while = round(self.WHILE_S * spec.rate)

    def begin(self, hold: np.ndarray, truth: np.ndarray | None = None) -> None:
        # Every robot has its own postures, the same in every run; the order of trials is random in each run.
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
            self._choose_posture()
        self._step += 1
        rows, most = np.arange(len(obs)), self.SPEED * self._spec.action_step
        self._now = self._now + np.clip(self._postures[rows, self._at] - self._now, -most, most)
        return self._now.astype(np.float32)

    def _choose_posture(self) -> None:
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
        """Do nothing: it has no model."""


def concatenate_statistics(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Concatenate the statistics of all robots."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
