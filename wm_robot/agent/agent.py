"""One robot's agent: it acts by planning in imagination, and updates its lifetime state by each transition."""

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
    """How badly the newest observation was expected."""

    nll: float
    """Negative log-likelihood, nats per channel."""
    mean: np.ndarray
    """Expected observation, `O`, sensor units."""
    deviation: np.ndarray
    """Expected deviation of each channel, `O`."""
    error: np.ndarray
    """(observed - expected) / deviation, `O`."""


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
        """Snapshot that this life goes on from."""

    @property
    def state(self) -> ArrayState:
        """The lifetime state; replaced at every step, and never changed in place."""
        return self._batch.state

    @property
    def counters(self) -> dict[str, int]:
        """`lived`: steps in the life, over all its sessions; `watched` and `invalid`: transitions of this session
        that could be learned from, whether it learns or not, and those that could not. With a learner, also what
        became of residuals; with caution, why steps were not learned from; and what was found of plans, if somebody
        watches them."""
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
        return store.save(
            self._batch.saved().flatten(),
            base_digest=self.base.digest,
            spec_digest=self.spec.digest(),
            branch=branch,
            parents=parents,
            note=note,
        ).digest
