"""Agents: they act by planning in imagination, and live each transition into their state."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.consolidation import Consolidating, Learner
from wm_robot.adaptation.context_bank import Recall
from wm_robot.adaptation.events import Event
from wm_robot.adaptation.experience_buffer import Reservoir
from wm_robot.adaptation.shadow import Trial
from wm_robot.adaptation.transition_filter import Caution
from wm_robot.agent.backends import parts_of
from wm_robot.agent.nan_guard import Finite
from wm_robot.agent.onnx_files import Graphs
from wm_robot.agent.onnx_planner import Plans
from wm_robot.agent.plan_monitor import Exploitation
from wm_robot.agent.plan_prediction import Imagined, Thought, imagined, with_action
from wm_robot.errors import ConfigError, InferenceError, SnapshotError
from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.model.base import Base
from wm_robot.planning.mppi import Improve, Mppi, MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store, opened
from wm_robot.types import Step

TREND = 8
"""Last goals through which a parabola goes, to tell the next ones."""


@dataclass(frozen=True, kw_only=True)
class Surprise:
    """How badly the newest observation was expected."""

    nll: float
    """Negative log-likelihood, nats per channel."""
    mean: np.ndarray
    """Expected observation, `O`, sensor units."""
    deviation: np.ndarray
    """Expected deviation of each channel, `O`."""
    error: np.ndarray
    """(observed - expected) / deviation, `O`."""


class _Decided(NamedTuple):
    """The moment of the last action: life, observation, goals ahead and the action."""

    state: ArrayState
    sensed: np.ndarray
    goals: np.ndarray
    """One more than the horizon has steps."""
    action: np.ndarray


class _Moment(NamedTuple):
    """What is saved, all of it of the same step."""

    state: ArrayState
    planner_noise: np.ndarray
    past: Reservoir | None


class BatchAgent:
    """`B` agents with one base, each with a life of its own. The experiments' agent; a robot has `Agent`."""

    def __init__(
        self,
        lives: ModelBackend[np.ndarray],
        plans: Plans,
        spec: RobotSpec,
        *,
        planner: MppiConfig | None = None,
        recall: bool = False,
        learner: Learner | None = None,
        exploitation: Exploitation | None = None,
        seed: int = 0,
    ):
        """Args:
        lives: A model, or its graphs for a single robot.
        plans: Likewise, for the task and this planner.
        recall: Recognise conditions that were lived before; not for an oracle.
        learner: Who fits residuals of these lives; not for an oracle. It is the caller's to end.
        exploitation: Who says whether plans keep what they promise; where they do not, risk is shunned.
        """
        self.spec = spec
        bank = Recall(lives) if recall else None
        self.consolidating = Consolidating(Trial(lives, bank), learner) if learner else None
        self._backend: ModelBackend[np.ndarray] = self.consolidating or bank or lives
        if exploitation and exploitation.config.risk and not plans.takes_risk:
            raise ConfigError(
                "exploitation.risk is set, but graphs plan without risk; 0 only tells of an alarm"
            )
        self._plans, self._exploitation = plans, exploitation
        self._planner = Mppi(
            planner or MppiConfig(),
            low=spec.action_low,
            high=spec.action_high,
            step=spec.action_step,
            seed=seed,
        )
        self._forecast = _parabola(TREND, self._planner.config.horizon + 1)
        self._goals: np.ndarray | None = None
        self._decided: _Decided | None = None
        self._thought: Thought | None = None
        self._state: ArrayState | None = None
        self._moment: _Moment | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a lifetime state."""
        return self._state is not None

    @property
    def state(self) -> ArrayState:
        """The lifetime state; replaced at every step, and never changed in place."""
        assert self._state is not None, "no lifetime state was begun"
        return self._state

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on with a saved state, in its flat form; the actions on their way to the motors are those of now.

        Parts that were not saved are those of the initial state.
        """
        born = self.state
        saved = LifetimeState.unflatten(
            born.flatten() | {name: value.copy() for name, value in arrays.items()}
        )
        if self.consolidating:
            self.consolidating.begin(saved.experience)
        # A life saved before this was kept begins to draw anew.
        if (noise := saved.planner_noise) is not None:
            if (noise.shape, noise.dtype) != ((1, 6), np.int64):
                raise SnapshotError(f"the planner's noise is {noise.dtype} {noise.shape}, not int64 (1, 6)")
            self._planner.random = noise[0]
        self._state = replace(saved, recent=born.recent, experience=None, planner_noise=None)

    def begin(self, hold: np.ndarray, truth: np.ndarray | None = None) -> None:
        """Be born.

        Args:
            hold: Action in force, `B A`; or those that may still be on their way to the motors, `B K A`.
            truth: True physics, `B P`, for the oracle.
        """
        under_way = _floats(hold if hold.ndim == 3 else hold[:, None])
        state = self._backend.birth(hold=under_way[:, -1], truth=_maybe(truth))
        recent = np.concatenate([state.recent, under_way], 1)[:, -state.recent.shape[1] :]
        self._state = replace(state, recent=recent)
        if self.consolidating:
            self.consolidating.begin()
        if self._exploitation:
            self._exploitation.begin(len(hold))
        self._planner.reset()
        self._goals = self._decided = self._thought = None

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """The next action, `B A`.

        Args:
            obs: `B O`.
            goal: `B G`; it is expected to go on moving as it did in the last calls.
            applied: What reached the motors on the way to `obs`, `B A`, if that step is yet to be lived.
        """
        sensed, goals = _floats(obs), self._expected_goals(_floats(goal))
        state = self.state
        if applied is not None:
            state = with_action(state, _floats(applied))
        plan = self._planner.plan(self._improving(state, sensed, goals[:, :-1]), state.recent[:, -1])
        action = plan[:, 0]
        self._decided = _Decided(state, sensed, goals, action)
        self._thought = Thought(state, sensed, plan)
        if self._exploitation:
            expect = partial(self._expected, state)
            self._exploitation.planned(sensed, goals[:, :-1], plan, state.recent, expect, goal=goal)
        return action

    def prepare(self, *, hurry: bool = False) -> None:
        """Begin the next plan, if it takes several iterations, from where the last action is expected to lead.

        For the time between two observations; `observe` does it first of all.

        Args:
            hurry: The next plan is this one, a step on, and not searched; never twice in a row.
        """
        decided, self._decided = self._decided, None
        if decided is None:
            return
        state, sensed, goals, action = decided
        if hurry and self._planner.searched:
            self._planner.carry_over(action)
            return
        if not self._planner.prepares:
            return
        expected, _ = self._backend.predict(state, sensed, action)
        self._planner.prepare(self._improving(with_action(state, action), expected, goals[:, 1:]), action)

    def rehearse(self) -> None:
        """Plan and forget it: the next action comes sooner when what it needs is in the processor's caches."""
        if self._thought is None or self._goals is None:
            return
        goals = (self._forecast @ self._goals)[:, :-1]
        self._planner.rehearse(
            self._improving(self.state, self._thought.sensed, goals), self.state.recent[:, -1]
        )

    def _expected(
        self, state: ArrayState, obs: np.ndarray, recent: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next observation, mean and log variance, as lives were when they planned; see `Expect`."""
        moments = len(obs) // len(state.step)
        states = map_values(lambda value: np.concatenate([value] * moments), state.model_part())
        expected = self._backend.predict(replace(states, recent=recent), _floats(obs), _floats(action))
        return expected.mean, expected.log_variance

    def _improving(self, state: ArrayState, sensed: np.ndarray, goals: np.ndarray) -> Improve:
        """The planner's iteration at a moment of these lives."""
        risk = self._exploitation.risk if self._exploitation else None
        return self._plans.improving(state, sensed, goals, risk)

    def observe(
        self,
        obs: np.ndarray,
        applied: np.ndarray,
        next_obs: np.ndarray,
        *,
        valid: np.ndarray | None = None,
        truth: np.ndarray | None = None,
        hurry: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Live one transition; before that, prepare the next plan.

        Args:
            applied: What reached the motors, `B A`.
            valid: 0 for a step that must not be learned from, `B`.
            truth: True physics in force during the transition, for the oracle.
            hurry: What can be left out is: to watch this plan and, every other time, to search for the next one.

        Returns:
            What was expected: mean and log variance of `next_obs`, `B O` each.
        """
        self.prepare(hurry=hurry)
        if self._exploitation and hurry:
            self._exploitation.forgo()
        elif self._exploitation:
            self._exploitation.imagine()
        weight = np.ones(len(obs), np.float32) if valid is None else _floats(valid)
        step = Step(_floats(obs), _floats(applied), _floats(next_obs), weight, truth=_maybe(truth))
        expected, self._state = self._backend.write(self.state, step)
        self.settle()
        return expected.mean, expected.log_variance

    def imagined(self) -> Imagined | None:
        """What the first robot expects of the plan that it acted on last; None before its first action."""
        return imagined(self._backend, self._thought) if self._thought else None

    def settle(self) -> None:
        """From here on this is what is saved; one assignment, since another thread may save."""
        past = self.consolidating.past if self.consolidating else None
        self._moment = _Moment(self.state, self._planner.random[None], past)

    def saved(self) -> ArrayState:
        """The state with all that is saved with it, of the moment that `settle` was called at last."""
        assert self._moment is not None, "no lifetime state was begun"
        state, noise, past = self._moment
        if past is None:
            return replace(state, planner_noise=noise)
        spec, batch = self.spec, len(state.step)
        obs, action = (np.zeros((batch, size), np.float32) for size in (spec.obs_dim, spec.action_dim))
        step = Step(obs, action, obs.copy(), np.zeros(batch, np.float32))
        return replace(state, experience=past.arrays(state, step), planner_noise=noise)

    def _expected_goals(self, goal: np.ndarray) -> np.ndarray:
        """The goal at each step of the horizon and one more, `B H+1 G`, by its last motion."""
        if self._goals is None or self._goals.shape[::2] != goal.shape:
            self._goals = np.repeat(goal[:, None], TREND, 1)
        self._goals = np.concatenate([self._goals[:, 1:], goal[:, None]], 1)
        return self._forecast @ self._goals


class Agent:
    """One robot's agent: the base it shares, and the life that is its own."""

    def __init__(
        self,
        base: Base,
        spec: RobotSpec,
        *,
        task: str,
        planner: MppiConfig | None = None,
        graphs: Graphs | None = None,
        learning: bool = True,
        recall: bool = True,
        learner: Learner | None = None,
        caution: Caution | None = None,
        exploitation: Exploitation | None = None,
        seed: int = 0,
    ):
        """Args:
        graphs: As exported for this base; see `load_graphs`.
        learning: False freezes the life: it is read and never written.
        recall: Recognise conditions that were lived before; False learns each anew.
        learner: Who fits the residual of the life, for one that learns. It is the caller's to end.
        caution: Who says what is not to be learned from.
        exploitation: Who says whether plans keep what they promise; where they do not, risk is shunned.

        Raises:
            SnapshotError: If the base was trained for another robot.
        """
        base.check_spec(spec)
        self.base, self.spec, self.learning = base, spec, learning
        planner = planner or MppiConfig()
        lives, plans, self.in_torch = parts_of(base, graphs, spec, task=task, planner=planner)
        learns = learning and not base.told
        self._batch = BatchAgent(
            Finite(lives),
            plans,
            spec,
            planner=planner,
            recall=recall and learns,
            learner=learner if learns else None,
            exploitation=exploitation,
            seed=seed,
        )
        self._caution, self._exploitation = caution, exploitation
        self._watched = {"watched": 0, "invalid": 0}
        self._origin: tuple[Store, str] | None = None
        """Snapshot that this life goes on from."""

    @property
    def state(self) -> ArrayState:
        """The life as it is; it is replaced at every step, and nobody changes it in place."""
        return self._batch.state

    @property
    def counters(self) -> dict[str, int]:
        """`lived`: steps in the life, over all its sessions; `watched` and `invalid`: transitions of this session
        that could be learned from, whether it learns or not, and those that could not. With a learner, also what
        became of residuals; with caution, why steps were not learned from; and what was found of plans, if somebody
        watches them."""
        lived = int(self._batch.state.step.max()) if self._batch.begun else 0
        counted = {"lived": lived, **self._watched}
        for part in self._parts:
            counted |= part.counts if part else {}
        shadow = self._batch.state.shadow if self._batch.begun else None
        if shadow is not None:
            outcomes = {"tried": shadow.offered, "believed": shadow.accepted, "given_up": shadow.rejected}
            counted |= {name: int(count.max()) for name, count in outcomes.items()}
        return counted

    @property
    def events(self) -> list[Event]:
        """The last ones of this session: what became of residuals and why, what was not learned from, and whether
        plans kept what they promised."""
        return sorted(event for part in self._parts if part for event in part.events)

    @property
    def _parts(self) -> tuple[Caution | Consolidating | Exploitation | None, ...]:
        """Those that count and tell."""
        return self._caution, self._batch.consolidating, self._exploitation

    def begin(self, hold: np.ndarray, restore: Path | str | None = None) -> None:
        """Be born, or go on with a saved life.

        Args:
            hold: Action in force, `A`; or those that may still be on their way to the motors, `K A`, the newest last.
            restore: Store of lives, and with `@` a branch or snapshot in it.

        Raises:
            SnapshotError: If the state is damaged or belongs to another base or robot.
        """
        self._batch.begin(np.atleast_2d(hold)[None])
        self._watched = dict.fromkeys(self._watched, 0)
        self._origin = None
        if restore is not None:
            store, reference = opened(restore)
            name = store.find(reference)
            arrays = store.load(name, base_digest=self.base.digest, spec_digest=self.spec.digest())
            self._batch.restore(arrays)
            self._origin = store, name
        self._batch.settle()

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """The next action, `A`, for observation `O` and goal `G`.

        Args:
            applied: What reached the motors on the way to `obs`, `A`, if that step is yet to be lived: a robot
                acts first and learns while its command is on the way.

        Raises:
            InferenceError: If there is no such action; then the baseline must take over.
        """
        done = None if applied is None else applied[None]
        action = self._batch.act(obs[None], goal[None], applied=done)[0]
        # A plan that was not searched did not look at the sensors.
        if not (np.isfinite(action).all() and np.isfinite(obs).all()):
            seen = [
                name for name, x in zip(self.spec.observation_names, obs, strict=True) if not np.isfinite(x)
            ]
            raise InferenceError(
                f"robot '{self.spec.name}' has no plan: none of those imagined has a finite score. "
                + (
                    f"Sensors {seen} are not finite; check them"
                    if seen
                    else "Stop this agent; go on from a snapshot"
                )
            )
        return action

    def live(
        self,
        obs: np.ndarray,
        applied: np.ndarray,
        next_obs: np.ndarray,
        *,
        valid: bool = True,
        contact: bool = False,
        hurry: bool = False,
    ) -> Surprise:
        """Live one transition: predict, compare, write.

        Args:
            valid: False for a gap or a doubtful reading; it is counted and not learned from.
            contact: The guard touched what reached the motors, or stopped them.
            hurry: The next observation is near. It is lived as ever, but this plan is not watched, and the next one
                is this one a step on, not searched; never twice in a row.

        Raises:
            InferenceError: If the life could not go on from what its base makes of this; it stays as it was.
        """
        if self._caution is not None:
            step = self._watched["watched"] + self._watched["invalid"]
            valid &= not self._caution.doubts(step, obs, applied, next_obs, contact=contact)
        if self._exploitation is not None and not valid:
            self._exploitation.doubt()
        self._watched["watched" if valid else "invalid"] += 1
        weight = np.array([1.0 if valid and self.learning else 0.0], np.float32)
        mean, log_variance = (
            x[0]
            for x in self._batch.observe(obs[None], applied[None], next_obs[None], valid=weight, hurry=hurry)
        )
        deviation = np.exp(0.5 * log_variance)
        error = (next_obs - mean) / deviation
        nll = 0.5 * (error**2 + log_variance + np.log(2 * np.pi))
        return Surprise(nll=float(nll.mean()), mean=mean, deviation=deviation, error=error)

    def rehearse(self) -> None:
        """Plan and forget it, right before an observation is due: then its action comes sooner."""
        self._batch.rehearse()

    def imagined(self) -> Imagined | None:
        """What is expected of the plan that it acted on last; None before its first action."""
        return self._batch.imagined()

    def save(self, place: Path | str, *, note: str = "") -> str:
        """Write the life, durably, and return the snapshot's digest.

        Args:
            place: Store of lives, and with `@` the branch.

        Raises:
            SnapshotError: If that branch holds a life that this one does not go on from.
        """
        store, branch = opened(place)
        parents = [] if self._origin is None else [store.fetch(*self._origin)]
        self._origin = store, self._write(store, branch, parents, note)
        return self._origin[1]

    def rescue(self, place: Path | str) -> str:
        """Write a copy of the life in another store, and return the snapshot's digest.

        It needs little room, as its ancestors come without their tensors, or not at all if they cannot be read. The
        life itself still goes on from what it was saved as before.

        Args:
            place: A new store, and with `@` the branch.
        """
        store, branch = opened(place)
        try:
            parents = [] if self._origin is None else [store.fetch(*self._origin, tensors=False)]
        except (OSError, SnapshotError):
            parents = []
        return self._write(store, branch, parents, "a copy, since its own store could not be written")

    def _write(self, store: Store, branch: str, parents: list[str], note: str) -> str:
        return store.save(
            self._batch.saved().flatten(),
            base_digest=self.base.digest,
            spec_digest=self.spec.digest(),
            branch=branch,
            parents=parents,
            note=note,
        ).digest


def _parabola(seen: int, ahead: int) -> Float[np.ndarray, "H N"]:
    """Weights of the last `N` values in the next `H`, by least squares."""

    def powers(first: int, count: int) -> np.ndarray:
        return np.arange(first, first + count, dtype=np.float64)[:, None] ** np.arange(3)

    return (powers(1, ahead) @ np.linalg.pinv(powers(1 - seen, seen))).astype(np.float32)


def _floats(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)


def _maybe(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else _floats(values)
