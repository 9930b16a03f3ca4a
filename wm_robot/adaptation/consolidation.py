"""Consolidation client: sends segments to a learner and starts the evaluation of its residual candidates."""

from collections import deque
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.adaptation.candidate import Candidate
from wm_robot.adaptation.events import EVENTS, Event
from wm_robot.adaptation.experience_buffer import Chapter, Reservoir
from wm_robot.adaptation.shadow import Trial, shadow_state
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import Prediction
from wm_robot.types import Step


@runtime_checkable
class Learner(Protocol):
    """Learner: fits residuals and never blocks the agent."""

    def begin(self, past: Reservoir) -> None:
        """Start with the experience of a new or restored lifetime state."""

    def offer(self, chapter: Chapter) -> bool:
        """Hand over a segment; return False if it was dropped."""

    def poll(self) -> Candidate | None:
        """Return a candidate, if one is available."""


@runtime_checkable
class Takes(Protocol):
    """Interface of `ResidualFitter`: computes candidates from segments."""

    past: Reservoir

    def take(self, chapter: Chapter) -> Candidate | None:
        """Add a segment; return a candidate, if one is due."""


class AtOnce:
    """Learner that fits in the caller's thread, so that experiments are reproducible."""

    def __init__(self, consolidation: Takes):
        self._consolidation = consolidation
        self._found: Candidate | None = None

    def begin(self, past: Reservoir) -> None:
        self._consolidation.past, self._found = past, None

    def offer(self, chapter: Chapter) -> bool:
        self._found = self._consolidation.take(chapter) or self._found
        return True

    def poll(self) -> Candidate | None:
        found, self._found = self._found, None
        return found


class Consolidating:
    """Model backend around `ShadowEvaluation` that stores experience and evaluates the learner's candidates."""

    def __init__(self, trial: Trial, learner: Learner):
        self._trial, self._learner = trial, learner
        self.past = Reservoir()
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.counts = {"offered": 0, "dropped": 0, "candidates": 0, "refused": 0}

    def begin(self, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Start with an empty experience buffer, or with a saved one."""
        self.past = Reservoir.of(arrays or {})
        self.events.clear()
        self.counts = dict.fromkeys(self.counts, 0)
        self._learner.begin(self.past)

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self._trial.birth(hold=hold, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self._trial.predict(state, obs, action)

    def write(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """Update as `ModelBackend.update`; before the step, the evaluation of a candidate may start."""
        candidate = self._learner.poll()
        if candidate is not None:
            state = self._tried(state, candidate)
        predicted, after = self._trial.write(state, step)
        self._keep(state, step)
        self._note(state, after)
        return predicted, after

    def _keep(self, state: ArrayState, step: Step[np.ndarray]) -> None:
        chapters = self.past.chapters
        self.past = self.past.lived(state, step)
        if self.past.chapters > chapters:
            taken = self._learner.offer(self.past.latest[-1])
            self.counts["offered" if taken else "dropped"] += 1

    def _tried(self, state: ArrayState, candidate: Candidate) -> ArrayState:
        residual, verdict, _ = candidate
        self.counts["candidates"] += 1
        for life, good in enumerate(verdict.accepted):
            self.counts["refused"] += not good
            figures = (
                f"error {verdict.candidate[life]:.3g} on held-out segments, {verdict.running[life]:.3g} with the "
                f"current residual, {verdict.frozen[life]:.3g} without a residual"
            )
            self._event(state, life, f"candidate {'under evaluation' if good else 'rejected'}: {figures}")
        return self._trial.tried(state, residual, verdict.accepted)

    def _note(self, state: ArrayState, after: ArrayState) -> None:
        """Record the decisions of the shadow evaluation."""
        before, now = shadow_state(state), shadow_state(after)
        for what, old, new in (
            ("accepted", before.accepted, now.accepted),
            ("rejected", before.rejected, now.rejected),
        ):
            for life in np.flatnonzero(new > old).tolist():
                self._event(after, life, f"residual {what}")

    def _event(self, state: ArrayState, life: int, what: str) -> None:
        self.events.append(Event(int(state.step[life]), life, what))
