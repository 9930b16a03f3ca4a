"""A life whose residual is learned beside it: chapters go out, candidates come in and are tried."""

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
    """Who fits residuals. It never keeps a life waiting."""

    def begin(self, past: Reservoir) -> None:
        """A life begins, or goes on; `past` is what it kept of itself."""

    def offer(self, chapter: Chapter) -> bool:
        """Hand over a chapter; False if it was dropped."""

    def poll(self) -> Candidate | None:
        """A candidate, if one is there."""


@runtime_checkable
class Takes(Protocol):
    """What makes candidates of chapters: a `Consolidation`."""

    past: Reservoir

    def take(self, chapter: Chapter) -> Candidate | None:
        """One chapter more; a candidate, if one is due."""


class AtOnce:
    """Learns when it is handed a chapter, and the caller waits: for experiments, which are to be the same again."""

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
    """A model backend as `Trial` is, that keeps the experience from which residuals are learned."""

    def __init__(self, trial: Trial, learner: Learner):
        self._trial, self._learner = trial, learner
        self.past = Reservoir()
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.counts = {"offered": 0, "dropped": 0, "candidates": 0, "refused": 0}

    def begin(self, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """A life begins, or goes on with what was saved of it."""
        self.past = Reservoir.of(arrays or {})
        self.events.clear()
        self.counts = dict.fromkeys(self.counts, 0)
        self._learner.begin(self.past)

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self._trial.birth(hold=hold, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self._trial.predict(state, obs, action)

    def write(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """See `ModelBackend.write`; before the step, a candidate may be put on trial."""
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
                f"error {verdict.candidate[life]:.3g} on what was held out, {verdict.running[life]:.3g} as it is, "
                f"{verdict.frozen[life]:.3g} without a residual"
            )
            self._event(state, life, f"candidate {'is tried' if good else 'refused'}: {figures}")
        return self._trial.tried(state, residual, verdict.accepted)

    def _note(self, state: ArrayState, after: ArrayState) -> None:
        """Record what the trial decided."""
        before, now = shadow_state(state), shadow_state(after)
        for what, old, new in (
            ("believed", before.accepted, now.accepted),
            ("given up", before.rejected, now.rejected),
        ):
            for life in np.flatnonzero(new > old).tolist():
                self._event(after, life, f"residual {what}")

    def _event(self, state: ArrayState, life: int, what: str) -> None:
        self.events.append(Event(int(state.step[life]), life, what))
