"""Consolidation client: sends segments to a learner and starts the evaluation of its residual candidates."""

from collections import deque
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.adaptation.candidate import ResidualCandidate
from wm_robot.adaptation.events import MAX_EVENTS, AgentEvent
from wm_robot.adaptation.experience_buffer import ExperienceBuffer, ExperienceSegment
from wm_robot.adaptation.shadow import ShadowEvaluation, get_shadow
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import Prediction
from wm_robot.types import Step


@runtime_checkable
class Learner(Protocol):
    """Learner: fits residuals and never blocks the agent."""

    def reset_experience(self, experience: ExperienceBuffer) -> None:
        """Start with the experience of a new or restored lifetime state."""

    def offer_segment(self, segment: ExperienceSegment) -> bool:
        """Hand over a segment; return False if it was dropped."""

    def poll_candidate(self) -> ResidualCandidate | None:
        """Return a candidate, if one is available."""


@runtime_checkable
class CandidateSource(Protocol):
    """Interface of `ResidualFitter`: computes candidates from segments."""

    experience: ExperienceBuffer

    def add_segment(self, segment: ExperienceSegment) -> ResidualCandidate | None:
        """Add a segment; return a candidate, if one is due."""


class SynchronousLearner:
    """Learner that fits in the caller's thread, so that experiments are reproducible."""

    def __init__(self, source: CandidateSource):
        self._source = source
        self._candidate: ResidualCandidate | None = None

    def reset_experience(self, experience: ExperienceBuffer) -> None:
        self._source.experience, self._candidate = experience, None

    def offer_segment(self, segment: ExperienceSegment) -> bool:
        self._candidate = self._source.add_segment(segment) or self._candidate
        return True

    def poll_candidate(self) -> ResidualCandidate | None:
        found, self._candidate = self._candidate, None
        return found


class ConsolidationClient:
    """Model backend around `ShadowEvaluation` that stores experience and evaluates the learner's candidates."""

    def __init__(self, evaluation: ShadowEvaluation, learner: Learner):
        self._evaluation, self._learner = evaluation, learner
        self.experience = ExperienceBuffer()
        self.events: deque[AgentEvent] = deque(maxlen=MAX_EVENTS)
        self.counts = dict.fromkeys(
            ("segments_offered", "segments_dropped", "candidates", "candidates_rejected"), 0
        )

    def restore_experience(self, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Start with an empty experience buffer, or with a saved one."""
        self.experience = ExperienceBuffer.from_arrays(arrays or {})
        self.events.clear()
        self.counts = dict.fromkeys(self.counts, 0)
        self._learner.reset_experience(self.experience)

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self._evaluation.initial_state(initial_action=initial_action, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self._evaluation.predict(state, obs, action)

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """Update as `ModelBackend.update`; before the step, the evaluation of a candidate may start."""
        candidate = self._learner.poll_candidate()
        if candidate is not None:
            state = self._start_evaluation(state, candidate)
        predicted, after = self._evaluation.update(state, step)
        self._append_experience(state, step)
        self._record_decisions(state, after)
        return predicted, after

    def _append_experience(self, state: ArrayState, step: Step[np.ndarray]) -> None:
        chapters = self.experience.chapters
        self.experience = self.experience.append_step(state, step)
        if self.experience.chapters > chapters:
            taken = self._learner.offer_segment(self.experience.latest[-1])
            self.counts["segments_offered" if taken else "segments_dropped"] += 1

    def _start_evaluation(self, state: ArrayState, candidate: ResidualCandidate) -> ArrayState:
        residual, verdict, _ = candidate
        self.counts["candidates"] += 1
        for life, good in enumerate(verdict.is_better):
            self.counts["candidates_rejected"] += not good
            figures = (
                f"error {verdict.candidate[life]:.3g} on held-out segments, {verdict.current[life]:.3g} with the "
                f"current residual, {verdict.without_residual[life]:.3g} without a residual"
            )
            self._add_event(state, life, f"candidate {'under evaluation' if good else 'rejected'}: {figures}")
        return self._evaluation.start_evaluation(state, residual, verdict.is_better)

    def _record_decisions(self, state: ArrayState, after: ArrayState) -> None:
        """Record the decisions of the shadow evaluation."""
        before, now = get_shadow(state), get_shadow(after)
        for what, old, new in (
            ("accepted", before.accepted, now.accepted),
            ("rejected", before.rejected, now.rejected),
        ):
            for life in np.flatnonzero(new > old).tolist():
                self._add_event(after, life, f"residual {what}")

    def _add_event(self, state: ArrayState, row: int, description: str) -> None:
        self.events.append(AgentEvent(int(state.step[row]), row, description))
