"""Learner process: fits residuals in a separate process, so that control never waits for it.

::

    agent ── segments (shared memory, dropped when full) ──▶ learner, torch, nice 19
    agent ◀── candidates (shared memory) ──────────────────  learner
"""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np

from wm_robot.adaptation.candidate import CandidateErrors, ResidualCandidate, ResidualFitConfig
from wm_robot.adaptation.experience_buffer import (
    SEGMENT_NUMBER,
    ExperienceBuffer,
    ExperienceConfig,
    ExperienceSegment,
)
from wm_robot.io.shared_ring import SharedRing, SlotLayout, get_layout
from wm_robot.memory.lifetime_state import (
    Residual,
    flatten_residual,
    map_values,
    unflatten_residual,
)
from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.backend import ModelBackend
from wm_robot.model.base import Base, load_base
from wm_robot.types import Step

NICE_LEVEL = 19
NUM_SEGMENT_SLOTS, NUM_CANDIDATE_SLOTS = 48, 2
"""Slots of the rings: segments of a minute, and a whole experience buffer after a restore."""
POLL_INTERVAL = 0.2
"""Poll interval for segments, in s."""
RESET_NUMBER = -1
"""Segment number that marks a reset: the learner drops all earlier segments."""


class LearnerProcess:
    """Learner in another process. It never blocks: segments without a free slot are dropped."""

    def __init__(
        self,
        folder: str | Path,
        base: Base,
        config: ResidualFitConfig | None = None,
        *,
        backend: ModelBackend[np.ndarray],
        nice: int = NICE_LEVEL,
    ):
        """Args:
        folder: Folder of the base.
        base: The same base, loaded.
        backend: Backend of the base in this process; the ONNX one needs no torch.
        nice: Nice level of the process, 0 to 19.
        """
        self._config = config or ResidualFitConfig()
        blank = _make_empty_segment(base, backend)
        self._segments = SharedRing(get_layout(blank.flatten()), NUM_SEGMENT_SLOTS)
        assert blank.start.residual is not None, "the base has no residual"
        self._candidates = SharedRing(
            get_layout(_encode_candidate(blank.start.residual, None, 0)), NUM_CANDIDATE_SLOTS
        )
        self._empty_segment, self._num_layers = blank, len(blank.start.memory)
        context = multiprocessing.get_context("spawn")
        arguments = (str(folder), self._segments.layout, self._candidates.layout, self._config, nice)
        names = self._segments.name, self._candidates.name
        self._process = context.Process(target=_run_learner, args=(*arguments, *names), daemon=True)
        self._process.start()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; the agent continues without it."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid or 0)

    def reset_experience(self, experience: ExperienceBuffer) -> None:
        while self._candidates.read_next() is not None:
            pass
        self._segments.try_write(self._empty_segment.flatten() | {SEGMENT_NUMBER: np.array([RESET_NUMBER])})
        older = [each for each in experience.kept if each.number[0] < experience.latest[0].number[0]]
        for chapter in (*older, *experience.latest):
            self.offer_segment(chapter)

    def offer_segment(self, segment: ExperienceSegment) -> bool:
        return self.is_alive and self._segments.try_write(segment.flatten())

    def poll_candidate(self) -> ResidualCandidate | None:
        answer = self._candidates.read_next()
        if answer is None:
            return None
        candidate, running, frozen = answer.pop("errors")
        number = int(answer.pop(SEGMENT_NUMBER)[0])
        verdict = CandidateErrors(candidate, running, frozen, self._config.margin)
        return ResidualCandidate(unflatten_residual(answer, layers=self._num_layers), verdict, number)

    def close(self) -> None:
        """Terminate the process and free the shared memory."""
        self._process.terminate()
        self._process.join(5.0)
        self._segments.close()
        self._candidates.close()


def _run_learner(
    folder: str,
    segments: SlotLayout,
    candidates: SlotLayout,
    config: ResidualFitConfig,
    nice: int,
    *names: str,
) -> None:
    """Main function of the learner process."""
    # Import torch here, and not in the process of the agent.
    import torch

    from wm_robot.adaptation.residual_fit import ResidualFitter

    # Ctrl-C stops the agent, which terminates its learner.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    torch.set_num_threads(1)
    consolidation = ResidualFitter(load_base(folder).model, config)
    inbox, outbox = (
        SharedRing(segments, NUM_SEGMENT_SLOTS, names[0]),
        SharedRing(candidates, NUM_CANDIDATE_SLOTS, names[1]),
    )
    parent = os.getppid()
    # A killed agent terminates nothing itself: stop when the parent changes.
    while os.getppid() == parent:
        chapter = inbox.read_next()
        if chapter is None:
            time.sleep(POLL_INTERVAL)
            continue
        if chapter[SEGMENT_NUMBER][0] == RESET_NUMBER:
            consolidation.experience = ExperienceBuffer()
            continue
        candidate = consolidation.add_segment(ExperienceSegment.unflatten(chapter))
        if candidate is not None:
            outbox.try_write(
                _encode_candidate(candidate.residual, candidate.errors, candidate.segment_number)
            )


def _encode_candidate(
    residual: Residual[np.ndarray], candidate_errors: CandidateErrors | None, number: int
) -> Arrays:
    """Encode a candidate as arrays."""
    errors = np.zeros((3, 1), np.float32) if candidate_errors is None else np.stack(candidate_errors[:3])
    return flatten_residual(residual) | {
        "errors": errors.astype(np.float32),
        SEGMENT_NUMBER: np.array([number]),
    }


def _make_empty_segment(base: Base, backend: ModelBackend[np.ndarray]) -> ExperienceSegment:
    """Return an empty segment of one robot in the initial state."""
    steps = ExperienceConfig().segment_steps
    obs, action = (np.zeros((1, steps, base.config[name]), np.float32) for name in ("obs", "action"))
    step = Step(obs, action, obs.copy(), np.zeros((1, steps), np.float32))
    born = backend.initial_state(initial_action=np.zeros((1, base.config["action"]), np.float32))
    return ExperienceSegment(step, map_values(np.ascontiguousarray, born), np.zeros(1, np.int64))
