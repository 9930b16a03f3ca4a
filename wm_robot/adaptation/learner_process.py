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

from wm_robot.adaptation.candidate import Candidate, ConsolidateConfig, Verdict
from wm_robot.adaptation.experience_buffer import NUMBER, Chapter, Reservoir, Sizes
from wm_robot.io.shared_ring import Layout, Ring, layout_of
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

NICE = 19
CHAPTERS, CANDIDATES = 48, 2
"""Slots of the rings: segments of a minute, and a whole experience buffer after a restore."""
IDLE = 0.2
"""Poll interval for segments, in s."""
BEGINS = -1
"""Segment number that marks a reset: the learner drops all earlier segments."""


class LearnerProcess:
    """Learner in another process. It never blocks: segments without a free slot are dropped."""

    def __init__(
        self,
        folder: str | Path,
        base: Base,
        config: ConsolidateConfig | None = None,
        *,
        backend: ModelBackend[np.ndarray],
        nice: int = NICE,
    ):
        """Args:
        folder: Folder of the base.
        base: The same base, loaded.
        backend: Backend of the base in this process; the ONNX one needs no torch.
        nice: Nice level of the process, 0 to 19.
        """
        self._config = config or ConsolidateConfig()
        blank = _blank(base, backend)
        self._chapters = Ring(layout_of(blank.flatten()), CHAPTERS)
        assert blank.start.residual is not None, "the base has no residual"
        self._candidates = Ring(layout_of(_answer(blank.start.residual, None, 0)), CANDIDATES)
        self._blank, self._layers = blank, len(blank.start.memory)
        context = multiprocessing.get_context("spawn")
        arguments = (str(folder), self._chapters.layout, self._candidates.layout, self._config, nice)
        names = self._chapters.name, self._candidates.name
        self._process = context.Process(target=_learn, args=(*arguments, *names), daemon=True)
        self._process.start()

    @property
    def alive(self) -> bool:
        """Whether the process still runs; the agent continues without it."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid or 0)

    def begin(self, past: Reservoir) -> None:
        while self._candidates.take() is not None:
            pass
        self._chapters.put(self._blank.flatten() | {NUMBER: np.array([BEGINS])})
        older = [each for each in past.kept if each.number[0] < past.latest[0].number[0]]
        for chapter in (*older, *past.latest):
            self.offer(chapter)

    def offer(self, chapter: Chapter) -> bool:
        return self.alive and self._chapters.put(chapter.flatten())

    def poll(self) -> Candidate | None:
        answer = self._candidates.take()
        if answer is None:
            return None
        candidate, running, frozen = answer.pop("errors")
        number = int(answer.pop(NUMBER)[0])
        verdict = Verdict(candidate, running, frozen, self._config.margin)
        return Candidate(unflatten_residual(answer, layers=self._layers), verdict, number)

    def close(self) -> None:
        """Terminate the process and free the shared memory."""
        self._process.terminate()
        self._process.join(5.0)
        self._chapters.close()
        self._candidates.close()


def _learn(
    folder: str, chapters: Layout, candidates: Layout, config: ConsolidateConfig, nice: int, *names: str
) -> None:
    """Main function of the learner process."""
    # Import torch here, and not in the process of the agent.
    import torch

    from wm_robot.adaptation.residual_fit import Consolidation

    # Ctrl-C stops the agent, which terminates its learner.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    torch.set_num_threads(1)
    consolidation = Consolidation(load_base(folder).model, config)
    inbox, outbox = Ring(chapters, CHAPTERS, names[0]), Ring(candidates, CANDIDATES, names[1])
    parent = os.getppid()
    # A killed agent terminates nothing itself: stop when the parent changes.
    while os.getppid() == parent:
        chapter = inbox.take()
        if chapter is None:
            time.sleep(IDLE)
            continue
        if chapter[NUMBER][0] == BEGINS:
            consolidation.past = Reservoir()
            continue
        candidate = consolidation.take(Chapter.unflatten(chapter))
        if candidate is not None:
            outbox.put(_answer(candidate.residual, candidate.verdict, candidate.chapter))


def _answer(residual: Residual[np.ndarray], verdict: Verdict | None, number: int) -> Arrays:
    """Encode a candidate as arrays."""
    errors = np.zeros((3, 1), np.float32) if verdict is None else np.stack(verdict[:3])
    return flatten_residual(residual) | {"errors": errors.astype(np.float32), NUMBER: np.array([number])}


def _blank(base: Base, backend: ModelBackend[np.ndarray]) -> Chapter:
    """Return an empty segment of one robot in the initial state."""
    steps = Sizes().steps
    obs, action = (np.zeros((1, steps, base.config[name]), np.float32) for name in ("obs", "action"))
    step = Step(obs, action, obs.copy(), np.zeros((1, steps), np.float32))
    born = backend.birth(hold=np.zeros((1, base.config["action"]), np.float32))
    return Chapter(step, map_values(np.ascontiguousarray, born), np.zeros(1, np.int64))
