"""Agent: plans an action for each observation and updates its lifetime state with each transition."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.consolidation import ConsolidationClient, Learner
from wm_robot.adaptation.events import AgentEvent
from wm_robot.adaptation.reading_checks import ReadingChecks
from wm_robot.adaptation.transition_filter import TransitionFilter
from wm_robot.agent.backends import select_backends, select_posture_backend
from wm_robot.agent.batch_agent import BatchAgent
from wm_robot.agent.nan_guard import NanGuard
from wm_robot.agent.onnx_files import OnnxFunctions
from wm_robot.agent.plan_monitor import PlanMonitor
from wm_robot.agent.plan_prediction import PlanPrediction
from wm_robot.errors import InferenceError, SnapshotError
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.base import Base
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store, parse_reference
from wm_robot.tasks.goal_types import list_goal_periods
from wm_robot.validation_record.session_error import SessionError


@dataclass(frozen=True, kw_only=True)
class PredictionError:
    """Prediction error of the newest observation."""

    nll: float
    """Negative log-likelihood, nats per channel."""
    mean: np.ndarray
    """Predicted observation, `O`, sensor units."""
    deviation: np.ndarray
    """Predicted deviation of each channel, `O`."""
    error: np.ndarray
    """(observed - predicted) / deviation, `O`; NaN for a channel without a reading."""

    def compute_nll(self, channels: np.ndarray) -> float:
        """Compute the negative log-likelihood of some channels, which have readings, in nats per channel.

        Args:
            channels: Bool `O`. A supervisor decides by those that are required: others may be noisy.
        """
        error, deviation = self.error[channels], self.deviation[channels]
        return float((0.5 * (error**2 + np.log(2 * np.pi)) + np.log(deviation)).mean())


class Agent:
    """Agent of one robot: a shared base and its own lifetime state."""

    def __init__(
        self,
        base: Base,
        spec: RobotSpec,
        *,
        task: str,
        planner: MppiConfig | None = None,
        functions: OnnxFunctions | None = None,
        learning: bool = True,
        use_context_bank: bool = True,
        learner: Learner | None = None,
        transition_filter: TransitionFilter | None = None,
        reading_checks: ReadingChecks | None = None,
        plan_monitor: PlanMonitor | None = None,
        seed: int = 0,
    ):
        """Args:
        functions: ONNX functions exported for this base; see `load_functions`.
        learning: False freezes the lifetime state: it is read and never updated.
        use_context_bank: Use a context bank; False learns every context from the present state.
        learner: Fits residuals of an agent that learns; the caller closes it.
        transition_filter: Selects the transitions that are not learned from.
        reading_checks: Masks sensors that are frozen or noisy by what the model predicts.
        plan_monitor: Compares the reward that plans predict with the reward that follows.

        Raises:
            SnapshotError: If the base was trained for another robot.
        """
        base.check_spec(spec)
        self.base, self.spec, self.learning = base, spec, learning
        backend, plans, self.torch_reason = select_backends(
            base, functions, spec, task=task, planner=planner or MppiConfig()
        )
        learns = learning and not base.uses_privileged_state
        self._batch = BatchAgent(
            NanGuard(backend),
            plans,
            spec,
            use_context_bank=use_context_bank and learns,
            learner=learner if learns else None,
            plan_monitor=plan_monitor,
            goal_periods=list_goal_periods(spec, spec.find_task(task)),
            posture_backend=select_posture_backend(base, functions, spec, task=task, plans=plans),
            seed=seed,
        )
        self._transition_filter, self._plan_monitor = transition_filter, plan_monitor
        self._reading_checks = reading_checks
        self._transition_counts = {"num_valid": 0, "num_invalid": 0}
        self._parent_snapshot: tuple[Store, str] | None = None
        """Snapshot from which this lifetime state continues."""
        self._session_error = SessionError()

    @property
    def state(self) -> ArrayState:
        """Lifetime state; replaced at every step, and never changed in place."""
        return self._batch.state

    @property
    def counters(self) -> dict[str, int]:
        """Counters by name. `num_steps`: updates of the lifetime, over all sessions. `num_valid` and `num_invalid`:
        transitions of this session, whether it learns or not. Parts in use add the outcomes of residuals, the
        reasons of rejected transitions, and the results of the plan monitor."""
        state = self._batch.state if self._batch.is_started else None
        counted = {"num_steps": int(state.step.max()) if state else 0, **self._transition_counts}
        for part in self._event_sources:
            counted |= part.counts if part else {}
        if state and (shadow := state.shadow) is not None:
            outcomes = {
                "residuals_evaluated": shadow.offered,
                "residuals_accepted": shadow.accepted,
                "residuals_rejected": shadow.rejected,
            }
            counted |= {name: int(count.max()) for name, count in outcomes.items()}
        return counted

    @property
    def events(self) -> list[AgentEvent]:
        """Last events of this session: decisions about residuals, rejected transitions, and alarms of the plan
        monitor."""
        return sorted(event for part in self._event_sources if part for event in part.events)

    @property
    def _event_sources(
        self,
    ) -> tuple[TransitionFilter | ReadingChecks | ConsolidationClient | PlanMonitor | None, ...]:
        """Parts with counters and events."""
        return (
            self._transition_filter,
            self._reading_checks,
            self._batch.consolidation,
            self._plan_monitor,
        )

    @property
    def parent_snapshot(self) -> tuple[Store, str] | None:
        """Store and digest of the snapshot that this lifetime state continues; None for the initial state."""
        return self._parent_snapshot

    @property
    def session_error(self) -> SessionError:
        """Prediction error of the valid transitions since `begin`."""
        return self._session_error

    def find_faults(self, obs: np.ndarray) -> Mapping[str, str]:
        """Find the faults of an observation `O`: field of a sensor, or channel of a joint, → `frozen` or `noisy`."""
        return self._reading_checks.find_faults(obs) if self._reading_checks else {}

    @property
    def is_goal_unreachable(self) -> bool:
        """Whether no posture of the robot reaches the last goal."""
        postures = self._batch.goal_postures
        return postures is not None and bool(postures.is_unreachable.any())

    def begin(self, last_action: np.ndarray, restore: Path | str | None = None) -> None:
        """Start from the initial state, or from a saved state.

        Args:
            last_action: Action in force, `A`; or all that may still be under way to the motors, `K A`, newest last.
            restore: Store, and with `@` a branch or snapshot in it.

        Raises:
            SnapshotError: If the state is damaged or belongs to another base or robot.
        """
        self._batch.begin(np.atleast_2d(last_action)[None])
        self._transition_counts = dict.fromkeys(self._transition_counts, 0)
        self._parent_snapshot, self._session_error = None, SessionError()
        if self._reading_checks is not None:
            self._reading_checks.reset()
        if restore is not None:
            store, reference = parse_reference(restore)
            name = store.resolve(reference)
            arrays = store.load(name, base_digest=self.base.digest, spec_digest=self.spec.compute_digest())
            self._batch.restore(arrays)
            self._parent_snapshot = store, name

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """Compute the next action, `A`, for observation `O` and goal `G`.

        Args:
            obs: NaN in the channels of optional sensors without a reading.
            applied: Action applied before `obs`, `A`, if that step is not observed yet: a robot acts first and
                learns while its command is on the way.

        Raises:
            InferenceError: If no plan has a finite score; then the fallback controller must take over.
        """
        done = None if applied is None else applied[None]
        if self._reading_checks is not None:
            obs = self._reading_checks.mask(obs)
        action = self._batch.act(obs[None], goal[None], applied=done)[0]
        broken = ~np.isfinite(obs) & self.spec.layout.is_required
        # A shifted plan does not depend on the sensors.
        if not np.isfinite(action).all() or broken.any():
            seen = [name for name, x in zip(self.spec.observation_names, broken, strict=True) if x]
            raise InferenceError(
                f"robot '{self.spec.name}' has no plan: no imagined plan has a finite score. "
                + (
                    f"Sensors {seen} are not finite; check them"
                    if seen
                    else "Stop this agent and continue from a snapshot"
                )
            )
        return action

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
    ) -> PredictionError:
        """Observe one transition: predict, compare, update.

        Args:
            valid: False for a gap or an unreliable reading; it is counted and not learned from.
            intervention: The safety layer changed the command or stopped the motors.
            skip_optional: Little time is left. The update is unchanged, but the plan monitor is skipped, and the next
                plan is the shifted one, never twice in a row.
            is_new: Whether each channel of `next_obs` is a new reading, bool `O`, and not one that a slow sensor
                holds; None: all are.

        Raises:
            InferenceError: If the updated state would not be finite; the state stays unchanged.
        """
        step, reading, is_predicted = sum(self._transition_counts.values()), next_obs, valid
        if self._reading_checks is not None:
            checks = self._reading_checks
            valid &= not (checks.has_frozen_required(obs) or checks.has_frozen_required(next_obs))
            obs, next_obs = checks.mask(obs), checks.mask(next_obs)
        if self._transition_filter is not None:
            valid &= not self._transition_filter.rejects(
                step, obs, applied, next_obs, intervention=intervention
            )
        if self._plan_monitor is not None and not valid:
            self._plan_monitor.invalidate()
        self._transition_counts["num_valid" if valid else "num_invalid"] += 1
        weight = np.array([1.0 if valid and self.learning else 0.0], np.float32)
        mean, log_variance = (
            x[0]
            for x in self._batch.observe(
                obs[None], applied[None], next_obs[None], valid=weight, skip_optional=skip_optional
            )
        )
        deviation = np.exp(0.5 * log_variance)
        if self._reading_checks is not None:
            self._reading_checks.update(
                step, reading, mean, deviation, is_new=is_new, is_predicted=is_predicted
            )
        error = self.spec.layout.subtract(next_obs, mean) / deviation
        nll = 0.5 * (error**2 + log_variance + np.log(2 * np.pi))
        gaps = ~(np.isfinite(obs) & np.isfinite(next_obs)) & ~self.spec.layout.is_required
        known = nll[~gaps] if gaps.any() else nll
        if valid:
            self._session_error.add_surprise(float(known.mean()))
        return PredictionError(nll=float(known.mean()), mean=mean, deviation=deviation, error=error)

    def predict_plan(self) -> PlanPrediction | None:
        """Predict the outcome of the newest plan; None before the first action."""
        return self._batch.predict_plan()

    def predict_outcome(
        self,
        obs: Float[np.ndarray, "O"],
        actions: Float[np.ndarray, "H A"],
        state: ArrayState | None = None,
    ) -> PlanPrediction:
        """Predict the outcome of given actions from an observation; see `BatchAgent.predict_outcome`."""
        return self._batch.predict_outcome(obs, actions, state)

    def fill_gaps(self, obs: Float[np.ndarray, "O"]) -> Float[np.ndarray, "O"]:
        """Return the newest observation, with the model's estimate where a sensor has no valid reading."""
        known = obs if self._reading_checks is None else self._reading_checks.mask(obs)
        return self._batch.fill_gaps(known[None])[0]

    def save(self, place: Path | str, *, note: str = "") -> str:
        """Save the lifetime state durably, and return the snapshot's digest.

        Args:
            place: Store, and with `@` the branch.

        Raises:
            SnapshotError: If the head of that branch is no ancestor of this state.
        """
        store, branch = parse_reference(place)
        parents = [] if self._parent_snapshot is None else [store.copy_from(*self._parent_snapshot)]
        self._parent_snapshot = store, self._save_snapshot(store, branch, parents, note)
        return self._parent_snapshot[1]

    def rescue(self, place: Path | str) -> str:
        """Save a copy of the lifetime state in another store, and return the snapshot's digest.

        The copy is small: ancestors come without their tensors, or not at all if they cannot be read. The next `save`
        still continues from the last snapshot in the agent's own store.

        Args:
            place: New store, and with `@` the branch.
        """
        store, branch = parse_reference(place)
        parents, origin = list[str](), dict[str, Any]()
        if self._parent_snapshot is not None:
            try:
                parents = [store.copy_from(*self._parent_snapshot, tensors=False)]
            except (OSError, SnapshotError):
                # Without it, the copy would look like a lifetime from the initial state.
                origin = {"snapshot": self._parent_snapshot[1], "parents": []}
        note = "a copy, since its own store could not be written"
        return self._save_snapshot(store, branch, parents, note, origin)

    def _save_snapshot(
        self,
        store: Store,
        branch: str,
        parents: list[str],
        note: str,
        origin: Mapping[str, Any] | None = None,
    ) -> str:
        return store.save(
            self._batch.snapshot_state().flatten(),
            base_digest=self.base.digest,
            spec_digest=self.spec.compute_digest(),
            branch=branch,
            parents=parents,
            metrics=self._session_error.to_metrics(),
            note=note,
            origin=origin,
        ).digest
