"""Batch agent: planning and learning of several agents with one base."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.consolidation import ConsolidationClient, Learner
from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.adaptation.experience_buffer import ExperienceBuffer
from wm_robot.adaptation.gap_filler import GapFiller
from wm_robot.adaptation.shadow import ShadowEvaluation
from wm_robot.agent.onnx_planner import PlannerBackend
from wm_robot.agent.plan_monitor import PlanMonitor
from wm_robot.agent.plan_prediction import LastPlan, PlanPrediction, append_recent_action, predict_plan
from wm_robot.errors import SnapshotError
from wm_robot.math.rotations import subtract_angles
from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.planning.goal_postures import GoalPostures
from wm_robot.planning.mppi import Iteration, Mppi
from wm_robot.spec import RobotSpec
from wm_robot.types import Step

NUM_TREND_GOALS = 8
"""Number of past goals that a parabola fits to extrapolate the next ones."""


class _SnapshotContent(NamedTuple):
    """Content of a snapshot, all parts from the same step."""

    state: ArrayState
    planner_noise: np.ndarray
    experience: ExperienceBuffer | None


class BatchAgent:
    """`B` agents with one base, each with its lifetime state. For experiments; a robot has `Agent`."""

    def __init__(
        self,
        backend: ModelBackend[np.ndarray],
        planner_backend: PlannerBackend,
        spec: RobotSpec,
        *,
        use_context_bank: bool = False,
        learner: Learner | None = None,
        plan_monitor: PlanMonitor | None = None,
        goal_periods: Sequence[float] = (),
        posture_backend: PlannerBackend | None = None,
        seed: int = 0,
    ):
        """Args:
        backend: Model in torch; or in ONNX, for a single robot.
        planner_backend: Planner backend for the task, in torch or ONNX, with its planner config.
        use_context_bank: Use a context bank; not for an oracle.
        learner: Fits residuals of these states; not for an oracle. The caller closes it.
        plan_monitor: Compares the reward that plans predict with the reward that follows.
        goal_periods: From `list_goal_periods`: which goal values are angles that wrap.
        posture_backend: Planner backend that tracks goal postures, of the same planner config; None: no detours.
        """
        self.spec = spec
        self._goal_periods = np.array(goal_periods, np.float32)
        bank = ContextBank(backend) if use_context_bank else None
        self.consolidation = (
            ConsolidationClient(ShadowEvaluation(backend, bank), learner) if learner else None
        )
        self._backend: ModelBackend[np.ndarray] = self.consolidation or bank or backend
        self._planner_backend, self._plan_monitor = planner_backend, plan_monitor
        self._posture_backend = posture_backend
        self.goal_postures: GoalPostures | None = None
        self._planner = Mppi(
            planner_backend.planner,
            low=spec.action_low,
            high=spec.action_high,
            max_step=spec.action_step,
            interval=spec.plan_interval,
            seed=seed,
        )
        self._forecast_weights = _compute_forecast_weights(NUM_TREND_GOALS, self._planner.config.horizon)
        self._goals: np.ndarray | None = None
        self._last_plan: LastPlan | None = None
        self._has_new_plan = False
        """Whether a plan was made since the last transition."""
        self._state: ArrayState | None = None
        self._gap_filler = GapFiller(spec, self._backend)
        self._snapshot_content: _SnapshotContent | None = None

    @property
    def is_started(self) -> bool:
        """Whether there is a lifetime state."""
        return self._state is not None

    @property
    def state(self) -> ArrayState:
        """Lifetime state; replaced at every step, and never changed in place."""
        assert self._state is not None, "the agent was not started"
        return self._state

    def begin(self, last_action: np.ndarray, truth: np.ndarray | None = None) -> None:
        """Start from the initial state.

        Args:
            last_action: Action in force, `B A`; or those that may still be on their way to the motors, `B K A`.
            truth: True physics, `B P`, for the oracle.
        """
        under_way = _as_float32(last_action if last_action.ndim == 3 else last_action[:, None])
        state = self._backend.initial_state(initial_action=under_way[:, -1], truth=_as_float32_or_none(truth))
        recent = np.concatenate([state.recent, under_way], 1)[:, -state.recent.shape[1] :]
        self._state = replace(state, recent=recent)
        if self.consolidation:
            self.consolidation.restore_experience()
        if self._plan_monitor:
            self._plan_monitor.begin(len(last_action))
        self._planner.reset()
        self.goal_postures = GoalPostures(self.spec, len(last_action)) if self._posture_backend else None
        self._goals = self._last_plan = None
        self._has_new_plan = False
        self._gap_filler.reset(len(last_action))
        self._update_snapshot_content()

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
            self._planner.noise_state = noise[0]
        if self.consolidation:
            self.consolidation.restore_experience(saved.experience)
        self._state = replace(saved, recent=born.recent, experience=None, planner_noise=None)
        self._update_snapshot_content()

    def snapshot_state(self) -> ArrayState:
        """Return the state after the last step, with all parts that are only saved; safe in another thread."""
        assert self._snapshot_content is not None, "the agent was not started"
        state, noise, past = self._snapshot_content
        if past is None:
            return replace(state, planner_noise=noise)
        spec, batch = self.spec, len(state.step)
        obs, action = (np.zeros((batch, size), np.float32) for size in (spec.obs_dim, spec.action_dim))
        step = Step(obs, action, obs.copy(), np.zeros(batch, np.float32))
        return replace(state, experience=past.to_arrays(state, step), planner_noise=noise)

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """Compute the next action, `B A`.

        Args:
            obs: `B O`; NaN in a channel of an optional sensor without a reading.
            goal: `B G`; its motion in the last calls is extrapolated.
            applied: Action applied before `obs`, `B A`, if that step is not observed yet.
        """
        done = None if applied is None else _as_float32(applied)
        sensed = self._gap_filler.fill(self.state, _as_float32(obs), done)
        goals = self._extrapolate_goals(_as_float32(goal))
        state = self.state if done is None else append_recent_action(self.state, done)
        improve = self._select_iteration(state, sensed, goals, _as_float32(goal))
        plan = self._planner.plan(improve, state.recent[:, -1])
        self._last_plan, self._has_new_plan = LastPlan(state, sensed, plan), True
        if self._plan_monitor:
            expect = partial(self._predict_at_plan, state)
            self._plan_monitor.on_plan(sensed, goals, plan, state.recent, expect, goal=goal)
        return plan[:, 0]

    def _select_iteration(
        self, state: ArrayState, obs: np.ndarray, goals: np.ndarray, goal: np.ndarray
    ) -> Iteration:
        """Select the planner's iteration: towards the goal, and for robots on a detour towards a posture."""
        if self.goal_postures is None or self._posture_backend is None:
            return self._planner_backend.iteration_at(state, obs, goals)
        active, postures = self.goal_postures.update(obs, goal)
        if not active.any():
            return self._planner_backend.iteration_at(state, obs, goals)
        targets = np.repeat(postures[:, None], self._planner.config.horizon, 1)
        detour = self._posture_backend.iteration_at(state, obs, targets)
        if active.all():
            return detour
        direct = self._planner_backend.iteration_at(state, obs, goals)
        return lambda *search: np.where(active[:, None, None], detour(*search), direct(*search))

    def observe(
        self,
        obs: np.ndarray,
        applied: np.ndarray,
        next_obs: np.ndarray,
        *,
        valid: np.ndarray | None = None,
        truth: np.ndarray | None = None,
        skip_optional: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Update the states with one transition.

        Args:
            obs: `B O`, as for `act`. So is `next_obs`.
            applied: Action that reached the motors, `B A`.
            valid: 0 for a step that must not be learned from, `B`.
            truth: True physics in force during the transition, for the oracle.
            skip_optional: Skip the plan monitor and, every second time, the search for the next plan.

        Returns:
            Prediction of `next_obs`: mean and log variance, `B O` each.
        """
        if self._has_new_plan and skip_optional and self._planner.replanned:
            self._planner.reuse_shifted_plan()
        self._has_new_plan = False
        if self._plan_monitor and skip_optional:
            self._plan_monitor.skip()
        elif self._plan_monitor:
            self._plan_monitor.advance()
        weight = np.ones(len(obs), np.float32) if valid is None else _as_float32(valid)
        step = self._gap_filler.make_step(
            self.state,
            *map(_as_float32, (obs, applied, next_obs)),
            valid=weight,
            truth=_as_float32_or_none(truth),
        )
        expected, self._state = self._backend.update(self.state, step)
        self._update_snapshot_content()
        return expected.mean, expected.log_variance

    def predict_plan(self) -> PlanPrediction | None:
        """Predict the outcome of the newest plan of the first robot; None before its first action."""
        return predict_plan(self._backend, self._last_plan) if self._last_plan else None

    def predict_outcome(
        self,
        obs: Float[np.ndarray, "O"],
        actions: Float[np.ndarray, "H A"],
        state: ArrayState | None = None,
    ) -> PlanPrediction:
        """Predict the outcome of given actions of the first robot from an observation.

        Args:
            state: State that this agent had before; None: the present one.
        """
        used = self.state if state is None else state
        return predict_plan(self._backend, LastPlan(used, _as_float32(obs[None]), _as_float32(actions[None])))

    def fill_gaps(self, obs: Float[np.ndarray, "B O"]) -> Float[np.ndarray, "B O"]:
        """Return the newest observation, with the model's estimate where an optional sensor has no reading."""
        return self._gap_filler.fill(self.state, _as_float32(obs))

    def _update_snapshot_content(self) -> None:
        """Set the content of the next snapshot; one assignment, since another thread may save."""
        past = self.consolidation.experience if self.consolidation else None
        self._snapshot_content = _SnapshotContent(self.state, self._planner.noise_state[None], past)

    def _predict_at_plan(
        self,
        state: ArrayState,
        obs: Float[np.ndarray, "K B O"],
        recent: Float[np.ndarray, "K B R A"],
        action: Float[np.ndarray, "K B A"],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict mean and log variance of the next observation from the planning states; see `PredictStep`."""
        rows, rows_recent, rows_action = (
            _as_float32(each.reshape(-1, *each.shape[2:])) for each in (obs, recent, action)
        )

        def repeat(value: np.ndarray) -> np.ndarray:
            return np.concatenate([value] * len(obs))

        states = LifetimeState(repeat(state.step), rows_recent, map_values(repeat, state.learned))
        found = self._backend.predict(states, rows, rows_action)
        return found.mean.reshape(obs.shape), found.log_variance.reshape(obs.shape)

    def _extrapolate_goals(self, goal: np.ndarray) -> np.ndarray:
        """Extrapolate the goal to each step of the horizon, `B H G`, by its last motion."""
        if self._goals is None or self._goals.shape[::2] != goal.shape:
            self._goals = np.repeat(goal[:, None], NUM_TREND_GOALS, 1)
        self._goals = np.concatenate([self._goals[:, 1:], goal[:, None]], 1)
        if len(self._goal_periods):
            self._goals = goal[:, None] + subtract_angles(self._goals, goal[:, None], self._goal_periods)
        return self._forecast_weights @ self._goals


def _compute_forecast_weights(num_past: int, num_ahead: int) -> Float[np.ndarray, "H N"]:
    """Compute the weights of the last `N` values in the next `H`, by a least-squares parabola."""

    def powers(first: int, count: int) -> np.ndarray:
        return np.arange(first, first + count, dtype=np.float64)[:, None] ** np.arange(3)

    return (powers(1, num_ahead) @ np.linalg.pinv(powers(1 - num_past, num_past))).astype(np.float32)


def _as_float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)


def _as_float32_or_none(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else _as_float32(values)
