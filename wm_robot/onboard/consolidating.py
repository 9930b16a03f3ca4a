"""A life whose residual is learned beside it: chapters go out, candidates come in and are tried."""

from collections import deque
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from wm_robot.learning.consolidate import Candidate, Consolidation
from wm_robot.lifetime.memory import State
from wm_robot.lifetime.reservoir import Chapter, Reservoir
from wm_robot.models.recall import known
from wm_robot.models.trial import OWN, Trial
from wm_robot.models.world_model import Prediction
from wm_robot.onboard.event import EVENTS, Event


@runtime_checkable
class Learner(Protocol):
    """Who fits residuals. It never keeps a life waiting."""

    def begin(self, past: Reservoir) -> None:
        """A life begins, or goes on; `past` is what it kept of itself."""

    def offer(self, chapter: Chapter) -> bool:
        """Hand over a chapter; False if it was dropped."""

    def poll(self) -> Candidate | None:
        """A candidate, if one is there."""


class AtOnce:
    """Learns when it is handed a chapter, and the caller waits: for experiments, which are to be the same again."""

    def __init__(self, consolidation: Consolidation):
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
    """Lives step by step as `Trial` does, and keeps what is to be learned from."""

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

    def write(
        self,
        state: State,
        obs: Tensor,
        action: Tensor,
        next_obs: Tensor,
        valid: Tensor,
        truth: Tensor | None = None,
    ) -> tuple[Prediction, State]:
        """Live one transition, as `Trial.write`; between two steps a candidate may begin to be tried."""
        candidate = self._learner.poll()
        if candidate is not None:
            state = self._tried(state, candidate)
        self._keep(state, obs, action, next_obs, valid)
        predicted, after = self._trial.write(state, obs, action, next_obs, valid, truth)
        self._note(state, after)
        return predicted, after

    def _keep(self, state: State, obs: Tensor, action: Tensor, next_obs: Tensor, valid: Tensor) -> None:
        step = {"obs": obs, "action": action, "next_obs": next_obs, "valid": valid}
        chapters = self.past.chapters
        self.past = self.past.lived(
            kept_of(state),
            **{name: value.numpy() for name, value in step.items()},
        )
        if self.past.chapters > chapters:
            taken = self._learner.offer(self.past.latest[-1])
            self.counts["offered" if taken else "dropped"] += 1

    def _tried(self, state: State, candidate: Candidate) -> State:
        residual, verdict, _ = candidate
        accepted = torch.from_numpy(verdict.accepted)
        self.counts["candidates"] += 1
        for life, good in enumerate(verdict.accepted):
            self.counts["refused"] += not good
            figures = (
                f"error {verdict.candidate[life]:.3g} on what was held out, {verdict.running[life]:.3g} as it is, "
                f"{verdict.frozen[life]:.3g} without a residual"
            )
            self._event(state, life, f"candidate {'is tried' if good else 'refused'}: {figures}")
        return self._trial.tried(state, residual, accepted)

    def _note(self, state: State, after: State) -> None:
        """Say what the trial decided."""
        for what in ("believed", "given_up"):
            changed = after[OWN + what] > state[OWN + what]
            if changed.any():
                for life in changed.nonzero()[:, 0].tolist():
                    self._event(after, life, f"residual {what.replace('_', ' ')}")

    def _event(self, state: State, life: int, what: str) -> None:
        self.events.append(Event(int(state["step"][life]), life, what))


def kept_of(state: State) -> dict[str, np.ndarray]:
    """What of a state is kept with a chapter, so that it can be lived again."""
    own = known(state) | {name: state[name] for name in ("step", "recent")}
    return {name: value.numpy() for name, value in own.items()}
