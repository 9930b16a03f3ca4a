"""Agent: plans an action for each observation and updates its lifetime state with each transition."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_robot.adaptation.consolidation import Consolidating, Learner
from wm_robot.adaptation.events import Event
from wm_robot.adaptation.transition_filter import Caution
from wm_robot.agent.backends import parts_of
from wm_robot.agent.batch_agent import BatchAgent
from wm_robot.agent.nan_guard import Finite
from wm_robot.agent.onnx_files import Graphs
from wm_robot.agent.plan_monitor import Exploitation
from wm_robot.agent.plan_prediction import Imagined
from wm_robot.errors import InferenceError, SnapshotError
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.base import Base
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store, opened


@dataclass(frozen=True, kw_only=True)
class Surprise:
    """Prediction error of the newest observation."""

    nll: float
    """Negative log-likelihood, nats per channel."""
    mean: np.ndarray
    """Predicted observation, `O`, sensor units."""
    deviation: np.ndarray
    """Predicted deviation of each channel, `O`."""
    error: np.ndarray
    """(observed - predicted) / deviation, `O`."""


class Agent:
    """Agent of one robot: a shared base and its own lifetime state."""

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
        functions: ONNX functions exported for this base; see `load_functions`.
        learning: False freezes the lifetime state: it is read and never updated.
        use_context_bank: Use a context bank; False learns every context from the present state.
        learner: Fits residuals of an agent that learns; the caller closes it.
        transition_filter: Selects the transitions that are not learned from.
        plan_monitor: Compares the reward that plans predict with the reward that follows.

        Raises:
            SnapshotError: If the base was trained for another robot.
        """
        base.check_spec(spec)
        self.base, self.spec, self.learning = base, spec, learning
        backend, plans, self.in_torch = parts_of(
            base, graphs, spec, task=task, planner=planner or MppiConfig()
        )
        learns = learning and not base.told
        self._batch = BatchAgent(
            Finite(backend),
            plans,
            spec,
            recall=recall and learns,
            learner=learner if learns else None,
            exploitation=exploitation,
            seed=seed,
        )
        self._caution, self._exploitation = caution, exploitation
        self._watched = {"watched": 0, "invalid": 0}
        self._origin: tuple[Store, str] | None = None
        """Snapshot from which this lifetime state continues."""

    @property
    def state(self) -> ArrayState:
        """Lifetime state; replaced at every step, and never changed in place."""
        return self._batch.state

    @property
    def counters(self) -> dict[str, int]:
        """Counters by name. `lived`: updates of the lifetime, over all sessions. `watched` and `invalid`: valid and
        invalid transitions of this session, whether it learns or not. Parts in use add the outcomes of residuals,
        the reasons of rejected transitions, and the results of the plan monitor."""
        state = self._batch.state if self._batch.begun else None
        counted = {"lived": int(state.step.max()) if state else 0, **self._watched}
        for part in self._parts:
            counted |= part.counts if part else {}
        if state and (shadow := state.shadow) is not None:
            outcomes = {"tried": shadow.offered, "believed": shadow.accepted, "given_up": shadow.rejected}
            counted |= {name: int(count.max()) for name, count in outcomes.items()}
        return counted

    @property
    def events(self) -> list[Event]:
        """Last events of this session: decisions about residuals, rejected transitions, and alarms of the plan
        monitor."""
        return sorted(event for part in self._parts if part for event in part.events)

    @property
    def _parts(self) -> tuple[Caution | Consolidating | Exploitation | None, ...]:
        """Parts with counters and events."""
        return self._caution, self._batch.consolidating, self._exploitation

    def begin(self, hold: np.ndarray, restore: Path | str | None = None) -> None:
        """Start from the initial state, or from a saved state.

        Args:
            last_action: Action in force, `A`; or all that may still be under way to the motors, `K A`, newest last.
            restore: Store, and with `@` a branch or snapshot in it.

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

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """Compute the next action, `A`, for observation `O` and goal `G`.

        Args:
            applied: Action applied before `obs`, `A`, if that step is not observed yet: a robot acts first and
                learns while its command is on the way.

        Raises:
            InferenceError: If no plan has a finite score; then the fallback controller must take over.
        """
        done = None if applied is None else applied[None]
        action = self._batch.act(obs[None], goal[None], applied=done)[0]
        # A shifted plan does not depend on the sensors.
        if not (np.isfinite(action).all() and np.isfinite(obs).all()):
            seen = [
                name for name, x in zip(self.spec.observation_names, obs, strict=True) if not np.isfinite(x)
            ]
            raise InferenceError(
                f"robot '{self.spec.name}' has no plan: no imagined plan has a finite score. "
                + (
                    f"Sensors {seen} are not finite; check them"
                    if seen
                    else "Stop this agent and continue from a snapshot"
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
        """Observe one transition: predict, compare, update.

        Args:
            valid: False for a gap or an unreliable reading; it is counted and not learned from.
            intervention: The safety layer changed the command or stopped the motors.
            skip_optional: Little time is left. The update is unchanged, but the plan monitor is skipped, and the next
                plan is the shifted one, never twice in a row.

        Raises:
            InferenceError: If the updated state would not be finite; the state stays unchanged.
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
        """Predict the outcome of the newest plan; None before the first action."""
        return self._batch.imagined()

    def save(self, place: Path | str, *, note: str = "") -> str:
        """Save the lifetime state durably, and return the snapshot's digest.

        Args:
            place: Store, and with `@` the branch.

        Raises:
            SnapshotError: If the head of that branch is no ancestor of this state.
        """
        store, branch = opened(place)
        parents = [] if self._origin is None else [store.fetch(*self._origin)]
        self._origin = store, self._write(store, branch, parents, note)
        return self._origin[1]

    def rescue(self, place: Path | str) -> str:
        """Save a copy of the lifetime state in another store, and return the snapshot's digest.

        The copy is small: ancestors come without their tensors, or not at all if they cannot be read. The next `save`
        still continues from the last snapshot in the agent's own store.

        Args:
            place: New store, and with `@` the branch.
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
