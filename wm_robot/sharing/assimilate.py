"""Another robot's experience, lived through the own write rule."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.context_bank import Recall, RecallConfig
from wm_robot.memory.lifetime_state import ContextBankState
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.progress import Progress, unreported
from wm_robot.types import Episode, Step


class Stretch(NamedTuple):
    """As many steps of each of `B` robots, side by side."""

    obs: Float[np.ndarray, "B Tplus1 O"]
    action: Float[np.ndarray, "B T A"]
    """What reached the motors."""
    hold: Float[np.ndarray, "B A"]
    """Action in force before the first step."""
    valid: Float[np.ndarray, "B T"]

    @classmethod
    def of(cls, episode: Episode) -> "Stretch":
        """An episode, as a stretch of one robot. An unknown action before the first is taken to be like it."""
        hold = np.where(np.isfinite(episode.hold), episode.hold, episode.action[0])
        parts = (episode.obs, episode.action, hold, episode.valid)
        return cls(*(np.ascontiguousarray(x, np.float32)[None] for x in parts))

    @property
    def steps(self) -> int:
        return self.action.shape[1]

    def part(self, start: int, stop: int) -> "Stretch":
        """Steps `start` to `stop`."""
        steps = slice(start, stop)
        hold = self.action[:, start - 1] if start else self.hold
        return Stretch(self.obs[:, start : stop + 1], self.action[:, steps], hold, self.valid[:, steps])

    def entered(self, state: ArrayState) -> ArrayState:
        """States as they begin it: with its actions on their way to the motors."""
        return replace(state, recent=np.repeat(self.hold[:, None], state.recent.shape[1], 1))

    def step(self, backend: ModelBackend[np.ndarray], state: ArrayState, t: int) -> ArrayState:
        """States after step `t` of it."""
        step = Step(self.obs[:, t], self.action[:, t], self.obs[:, t + 1], self.valid[:, t])
        _, after = backend.write(state, step)
        return after


def backend_of(backend: ModelBackend[np.ndarray], state: ArrayState) -> ModelBackend[np.ndarray]:
    """The backend with a context bank around it, where a state has one."""
    return backend if state.bank is None else _recall(backend, state.bank)


def _recall(backend: ModelBackend[np.ndarray], bank: ContextBankState[np.ndarray]) -> Recall:
    """A context bank of as many slots as the state has."""
    return Recall(backend, RecallConfig(slots=bank.last_used.shape[1]))


def lived(
    backend: ModelBackend[np.ndarray],
    state: ArrayState,
    stretches: Sequence[Stretch],
    progress: Progress = unreported,
) -> ArrayState:
    """States after these stretches, one after another.

    Args:
        progress: Of the steps.
    """
    backend = backend_of(backend, state)
    before, total = 0, sum(stretch.steps for stretch in stretches)
    for stretch in stretches:
        state = stretch.entered(state)
        for t in range(stretch.steps):
            state = stretch.step(backend, state, t)
            progress(before + t + 1, total)
        before += stretch.steps
    return state


def assimilated(
    backend: ModelBackend[np.ndarray],
    state: ArrayState,
    stretches: Sequence[Stretch],
    progress: Progress = unreported,
) -> ArrayState:
    """States after they took in what others experienced, as if it were their own.

    A state with a context bank begins there from the initial learned state, since it is another body, and recalls
    what is in its bank. It stores the contexts that it met, and is then back in its own, where its body is.

    Args:
        backend: By torch or ONNX; the context bank is put around it here.
        state: Not changed.
        progress: Of the steps.
    """
    if state.bank is None:
        return replace(lived(backend, state, stretches, progress), recent=state.recent)
    bank = _recall(backend, state.bank)
    after = lived(backend, bank.anew(state), stretches, progress)
    return bank.back(replace(after, recent=state.recent), state)
