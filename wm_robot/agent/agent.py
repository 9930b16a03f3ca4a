"""Agents: they act by planning in imagination, and live each transition into their state."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.consolidation import Consolidating, Learner, kept_of
from wm_robot.adaptation.context_bank import Recall, known
from wm_robot.adaptation.events import Event
from wm_robot.adaptation.experience_buffer import PREFIX as PAST
from wm_robot.adaptation.experience_buffer import Reservoir
from wm_robot.adaptation.shadow import OWN, Trial
from wm_robot.adaptation.transition_filter import Caution
from wm_robot.agent.backends import parts_of
from wm_robot.agent.nan_guard import Finite
from wm_robot.agent.onnx_files import Graphs
from wm_robot.agent.onnx_planner import Plans
from wm_robot.agent.plan_monitor import Exploitation
from wm_robot.agent.plan_prediction import Imagined, Thought, imagined
from wm_robot.errors import InferenceError, SnapshotError
from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.backend import Lives, Writes
from wm_robot.model.base import Base
from wm_robot.planning.mppi import Mppi, MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store, opened

RANDOM = "planner.random"
"""In what is saved of a life: where the noise of its plans has got to, `1 6`."""
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


class _Moment(NamedTuple):
    """What is saved, all of it of the same step."""

    state: Arrays
    random: Arrays
    past: Reservoir | None


class BatchAgent:
    """`B` agents with one base, each with a life of its own. The experiments' agent; a robot has `Agent`."""

    def __init__(
        self,
        lives: Lives,
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
        exploitation: Compares the reward that plans predict with the reward that follows.
        """
        self.spec = spec
        self._lives = lives
        self._recall = Recall(lives) if recall else None
        self._writes: Writes = self._recall or lives
        self._trial = Trial(lives, self._recall) if learner else None
        self.consolidating = Consolidating(self._trial, learner) if self._trial and learner else None
        self._plans, self._exploitation = plans, exploitation
        self._planner = Mppi(
            planner or MppiConfig(),
            low=spec.action_low,
            high=spec.action_high,
            step=spec.action_step,
            seed=seed,
        )
        self._forecast = _parabola(TREND, self._planner.config.horizon)
        self._goals: np.ndarray | None = None
        self._thought: Thought | None = None
        self._acted = False
        """Whether a plan was made since the last transition."""
        self.state: Arrays = {}
        self.moment: _Moment = _Moment({}, {}, None)

    def begin(self, hold: np.ndarray, truth: np.ndarray | None = None) -> None:
        """Be born.

        Args:
            hold: Action in force, `B A`.
            truth: True physics, `B P`, for the oracle.
        """
        state = self._lives.birth(hold=_floats(hold), truth=_maybe(truth))
        state = self._recall.birth(state) if self._recall else state
        self.state = self._trial.birth(state) if self._trial else state
        if self.consolidating:
            self.consolidating.begin()
        if self._exploitation:
            self._exploitation.begin(len(hold))
        self._planner.reset()
        self._goals = self._thought = None
        self._acted = False

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
            recent = np.concatenate([state["recent"][:, 1:], _floats(applied)[:, None]], 1)
            state = state | {"recent": recent}
        improve = self._plans.improving(state, sensed, goals)
        plan = self._planner.plan(improve, state["recent"][:, -1])
        action = plan[:, 0]
        self._thought, self._acted = Thought(state, sensed, plan), True
        if self._exploitation:
            expect = partial(self._expected, state)
            self._exploitation.planned(sensed, goals, plan, state["recent"], expect, goal=goal)
        return action

    def _expected(
        self, state: Arrays, obs: np.ndarray, recent: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next observation, mean and log variance, as lives were when they planned; see `Expect`."""
        moments = len(obs) // len(state["step"])
        lives = {name: np.concatenate([state[name]] * moments) for name in ("step", *known(state))}
        return self._lives.predict(lives | {"recent": recent}, _floats(obs), _floats(action))

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
        """Live one transition.

        Args:
            applied: What reached the motors, `B A`.
            valid: 0 for a step that must not be learned from, `B`.
            truth: True physics in force during the transition, for the oracle.
            hurry: What can be left out is: to watch this plan and, every other time, to search for the next one.

        Returns:
            What was expected: mean and log variance of `next_obs`, `B O` each.
        """
        if self._acted and hurry and self._planner.searched:
            self._planner.carry_over()
        self._acted = False
        if self._exploitation and hurry:
            self._exploitation.forgo()
        elif self._exploitation:
            self._exploitation.imagine()
        weight = np.ones(len(obs), np.float32) if valid is None else _floats(valid)
        write = (self.consolidating or self._writes).write
        step = (_floats(obs), _floats(applied), _floats(next_obs), weight)
        expected, self.state = write(self.state, *step, _maybe(truth))
        self.settle()
        return expected.mean, expected.log_variance

    def imagined(self) -> Imagined | None:
        """What the first robot expects of the plan that it acted on last; None before its first action."""
        return imagined(self._lives, self._thought) if self._thought else None

    def settle(self) -> None:
        """From here on this is what is saved; one assignment, since another thread may save."""
        past = self.consolidating.past if self.consolidating else None
        self.moment = _Moment(self.state, {RANDOM: self._planner.random[None]}, past)

    def go_on_drawing(self, random: np.ndarray) -> None:
        """Let the noise of plans go on from where that of a saved life was; see `Mppi.random`."""
        self._planner.random = random

    @property
    def kept_like(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """A state and a step, as they are kept of the past."""
        spec, batch = self.spec, len(self.state["step"])
        sizes = {"obs": spec.obs_dim, "action": spec.action_dim, "next_obs": spec.obs_dim}
        step = {name: np.zeros((batch, size), np.float32) for name, size in sizes.items()}
        return kept_of(self.state), step | {"valid": np.zeros(batch, np.float32)}

    def _expected_goals(self, goal: np.ndarray) -> np.ndarray:
        """The goal at each step of the horizon, `B H G`, by its last motion."""
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
        exploitation: Compares the reward that plans predict with the reward that follows.

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
    def state(self) -> Arrays:
        """The life as it is; it is replaced at every step, and nobody changes it in place."""
        return self._batch.state

    @property
    def counters(self) -> dict[str, int]:
        """`lived`: steps in the life, over all its sessions; `watched` and `invalid`: transitions of this session
        that could be learned from, whether it learns or not, and those that could not. With a learner, also what
        became of residuals; with caution, why steps were not learned from; and what was found of plans, if somebody
        watches them."""
        lived = int(self._batch.state["step"].max()) if self._batch.state else 0
        counted = {"lived": lived, **self._watched}
        for part in self._parts:
            counted |= part.counts if part else {}
        for name in ("tried", "believed", "given_up"):
            if OWN + name in self._batch.state:
                counted[name] = int(self._batch.state[OWN + name].max())
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
        under_way = _floats(np.atleast_2d(hold))[None]
        self._batch.begin(under_way[:, -1])
        self._watched = dict.fromkeys(self._watched, 0)
        self._origin = None
        recent = self._batch.state["recent"]
        self._batch.state["recent"] = np.concatenate([recent, under_way], 1)[:, -recent.shape[1] :]
        if restore is not None:
            store, reference = opened(restore)
            name = store.find(reference)
            arrays = store.load(name, base_digest=self.base.digest, spec_digest=self.spec.digest())
            born = self._batch.state
            if self._batch.consolidating:
                self._batch.consolidating.begin(arrays)
            # A life saved before this was kept begins to draw anew.
            if (random := arrays.get(RANDOM)) is not None:
                if (random.shape, random.dtype) != ((1, 6), np.int64):
                    raise SnapshotError(
                        f"{RANDOM} of {restore} is {random.dtype} {random.shape}, not int64 (1, 6)"
                    )
                self._batch.go_on_drawing(random[0])
            beside_it = (PAST, RANDOM)
            arrays = {key: value for key, value in arrays.items() if not key.startswith(beside_it)}
            state = {key: value.copy() for key, value in arrays.items()}
            # The body is where it is now, whatever was on its way when the life was saved.
            self._batch.state = born | state | {"recent": born["recent"]}
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
        state, random, past = self._batch.moment
        return store.save(
            state | random | (past.arrays(*self._batch.kept_like) if past else {}),
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
