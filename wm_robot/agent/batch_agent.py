"""Batch agent: planning and learning of several agents with one base."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.consolidation import Consolidating, Learner
from wm_robot.adaptation.context_bank import Recall
from wm_robot.adaptation.experience_buffer import Reservoir
from wm_robot.adaptation.shadow import Trial
from wm_robot.agent.onnx_planner import Plans
from wm_robot.agent.plan_monitor import Exploitation
from wm_robot.agent.plan_prediction import Imagined, Thought, imagined, with_action
from wm_robot.errors import SnapshotError
from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.planning.mppi import Mppi
from wm_robot.spec import RobotSpec
from wm_robot.types import Step

TREND = 8
"""Number of past goals that a parabola fits to extrapolate the next ones."""


class _Moment(NamedTuple):
    """Content of a snapshot, all parts from the same step."""

    state: ArrayState
    planner_noise: np.ndarray
    past: Reservoir | None


class BatchAgent:
    """`B` agents with one base, each with its lifetime state. For experiments; a robot has `Agent`."""

    def __init__(
        self,
        backend: ModelBackend[np.ndarray],
        plans: Plans,
        spec: RobotSpec,
        *,
        recall: bool = False,
        learner: Learner | None = None,
        exploitation: Exploitation | None = None,
        seed: int = 0,
    ):
        """Args:
        backend: Model in torch; or in ONNX, for a single robot.
        planner_backend: Planner backend for the task, in torch or ONNX, with its planner config.
        use_context_bank: Use a context bank; not for an oracle.
        learner: Fits residuals of these states; not for an oracle. The caller closes it.
        plan_monitor: Compares the reward that plans predict with the reward that follows.
        """
        self.spec = spec
        bank = Recall(backend) if recall else None
        self.consolidating = Consolidating(Trial(backend, bank), learner) if learner else None
        self._backend: ModelBackend[np.ndarray] = self.consolidating or bank or backend
        self._plans, self._exploitation = plans, exploitation
        self._planner = Mppi(
            plans.planner,
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
        self._state: ArrayState | None = None
        self._moment: _Moment | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a lifetime state."""
        return self._state is not None

    @property
    def state(self) -> ArrayState:
        """Lifetime state; replaced at every step, and never changed in place."""
        assert self._state is not None, "the agent was not started"
        return self._state

    def begin(self, hold: np.ndarray, truth: np.ndarray | None = None) -> None:
        """Start from the initial state.

        Args:
            last_action: Action in force, `B A`; or those that may still be on their way to the motors, `B K A`.
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
        self._goals = self._thought = None
        self._acted = False
        self._settle()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a saved state, in its flat form; the recent actions stay those of now.

        Parts that were not saved are those of the initial state.

        Raises:
            SnapshotError: If a part is unknown or of another shape.
        """
        born = self.state
        copied = {name: value.copy() for name, value in arrays.items()}
        saved = LifetimeState.unflatten(born.flatten() | copied)
        # A state that was saved without noise restarts the random numbers.
        if (noise := saved.planner_noise) is not None:
            if (noise.shape, noise.dtype) != ((1, 6), np.int64):
                raise SnapshotError(f"the planner's noise is {noise.dtype} {noise.shape}, not int64 (1, 6)")
            self._planner.random = noise[0]
        if self.consolidating:
            self.consolidating.begin(saved.experience)
        self._state = replace(saved, recent=born.recent, experience=None, planner_noise=None)
        self._settle()

    def saved(self) -> ArrayState:
        """Return the state after the last step, with all parts that are only saved; safe in another thread."""
        assert self._moment is not None, "the agent was not started"
        state, noise, past = self._moment
        if past is None:
            return replace(state, planner_noise=noise)
        spec, batch = self.spec, len(state.step)
        obs, action = (np.zeros((batch, size), np.float32) for size in (spec.obs_dim, spec.action_dim))
        step = Step(obs, action, obs.copy(), np.zeros(batch, np.float32))
        return replace(state, experience=past.arrays(state, step), planner_noise=noise)

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """Compute the next action, `B A`.

        Args:
            obs: `B O`.
            goal: `B G`; its motion in the last calls is extrapolated.
            applied: Action applied before `obs`, `B A`, if that step is not observed yet.
        """
        sensed, goals = _floats(obs), self._expected_goals(_floats(goal))
        state = self.state if applied is None else with_action(self.state, _floats(applied))
        improve = self._plans.improving(state, sensed, goals)
        plan = self._planner.plan(improve, state.recent[:, -1])
        self._thought, self._acted = Thought(state, sensed, plan), True
        if self._exploitation:
            expect = partial(self._expected, state)
            self._exploitation.planned(sensed, goals, plan, state.recent, expect, goal=goal)
        return plan[:, 0]

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
        """Update the states with one transition.

        Args:
            applied: Action that reached the motors, `B A`.
            valid: 0 for a step that must not be learned from, `B`.
            truth: True physics in force during the transition, for the oracle.
            skip_optional: Skip the plan monitor and, every second time, the search for the next plan.

        Returns:
            Prediction of `next_obs`: mean and log variance, `B O` each.
        """
        if self._acted and hurry and self._planner.searched:
            self._planner.carry_over()
        self._acted = False
        if self._exploitation and hurry:
            self._exploitation.forgo()
        elif self._exploitation:
            self._exploitation.imagine()
        weight = np.ones(len(obs), np.float32) if valid is None else _floats(valid)
        step = Step(_floats(obs), _floats(applied), _floats(next_obs), weight, truth=_maybe(truth))
        expected, self._state = self._backend.write(self.state, step)
        self._settle()
        return expected.mean, expected.log_variance

    def imagined(self) -> Imagined | None:
        """Predict the outcome of the newest plan of the first robot; None before its first action."""
        return imagined(self._backend, self._thought) if self._thought else None

    def _settle(self) -> None:
        """Set the content of the next snapshot; one assignment, since another thread may save."""
        past = self.consolidating.past if self.consolidating else None
        self._moment = _Moment(self.state, self._planner.random[None], past)

    def _expected(
        self,
        state: ArrayState,
        obs: Float[np.ndarray, "K B O"],
        recent: Float[np.ndarray, "K B R A"],
        action: Float[np.ndarray, "K B A"],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict mean and log variance of the next observation from the planning states; see `PredictStep`."""
        rows, rows_recent, rows_action = (
            _floats(each.reshape(-1, *each.shape[2:])) for each in (obs, recent, action)
        )

        def repeat(value: np.ndarray) -> np.ndarray:
            return np.concatenate([value] * len(obs))

        states = LifetimeState(repeat(state.step), rows_recent, map_values(repeat, state.learned))
        found = self._backend.predict(states, rows, rows_action)
        return found.mean.reshape(obs.shape), found.log_variance.reshape(obs.shape)

    def _expected_goals(self, goal: np.ndarray) -> np.ndarray:
        """Extrapolate the goal to each step of the horizon, `B H G`, by its last motion."""
        if self._goals is None or self._goals.shape[::2] != goal.shape:
            self._goals = np.repeat(goal[:, None], TREND, 1)
        self._goals = np.concatenate([self._goals[:, 1:], goal[:, None]], 1)
        return self._forecast @ self._goals


def _parabola(seen: int, ahead: int) -> Float[np.ndarray, "H N"]:
    """Compute the weights of the last `N` values in the next `H`, by a least-squares parabola."""

    def powers(first: int, count: int) -> np.ndarray:
        return np.arange(first, first + count, dtype=np.float64)[:, None] ** np.arange(3)

    return (powers(1, ahead) @ np.linalg.pinv(powers(1 - seen, seen))).astype(np.float32)


def _floats(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)


def _maybe(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else _floats(values)
