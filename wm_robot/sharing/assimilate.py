"""Assimilation: updates a lifetime state with the recorded experience of another robot."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig
from wm_robot.memory.lifetime_state import ContextBankState
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.progress import Progress, ignore_progress
from wm_robot.types import Episode, Step


class RecordedSteps(NamedTuple):
    """Recorded steps of `B` robots, the same number of each."""

    obs: Float[np.ndarray, "B Tplus1 O"]
    action: Float[np.ndarray, "B T A"]
    """Actions that reached the motors."""
    initial_action: Float[np.ndarray, "B A"]
    """Action in force before the first step."""
    valid: Float[np.ndarray, "B T"]

    @classmethod
    def from_episode(cls, episode: Episode) -> "RecordedSteps":
        """Convert an episode of one robot. An unknown action before the first one is set equal to it."""
        hold = np.where(np.isfinite(episode.initial_action), episode.initial_action, episode.action[0])
        parts = (episode.obs, episode.action, hold, episode.valid)
        return cls(*(np.ascontiguousarray(x, np.float32)[None] for x in parts))

    @property
    def num_steps(self) -> int:
        return self.action.shape[1]

    def select_steps(self, start: int, stop: int) -> "RecordedSteps":
        """Select steps `start` to `stop`."""
        steps = slice(start, stop)
        hold = self.action[:, start - 1] if start else self.initial_action
        return RecordedSteps(self.obs[:, start : stop + 1], self.action[:, steps], hold, self.valid[:, steps])

    def enter_state(self, state: ArrayState) -> ArrayState:
        """Return the states with the recent actions of the start of this recording."""
        return replace(state, recent=np.repeat(self.initial_action[:, None], state.recent.shape[1], 1))

    def update_state(self, backend: ModelBackend[np.ndarray], state: ArrayState, t: int) -> ArrayState:
        """Update the states with step `t`."""
        step = Step(self.obs[:, t], self.action[:, t], self.obs[:, t + 1], self.valid[:, t])
        _, after = backend.update(state, step)
        return after


def wrap_backend(backend: ModelBackend[np.ndarray], state: ArrayState) -> ModelBackend[np.ndarray]:
    """Wrap the backend in a context bank, where a state has one."""
    return backend if state.bank is None else _make_context_bank(backend, state.bank)


def _make_context_bank(backend: ModelBackend[np.ndarray], bank: ContextBankState[np.ndarray]) -> ContextBank:
    """Create a context bank with the number of slots of a state."""
    return ContextBank(backend, ContextBankConfig(num_slots=bank.last_used.shape[1]))


def replay_recordings(
    backend: ModelBackend[np.ndarray],
    state: ArrayState,
    recordings: Sequence[RecordedSteps],
    progress: Progress = ignore_progress,
) -> ArrayState:
    """Update the states with recordings, in sequence.

    Args:
        progress: Progress of the steps.
    """
    backend = wrap_backend(backend, state)
    before, total = 0, sum(stretch.num_steps for stretch in recordings)
    for stretch in recordings:
        state = stretch.enter_state(state)
        for t in range(stretch.num_steps):
            state = stretch.update_state(backend, state, t)
            progress(before + t + 1, total)
        before += stretch.num_steps
    return state


def assimilate_experience(
    backend: ModelBackend[np.ndarray],
    state: ArrayState,
    recordings: Sequence[RecordedSteps],
    progress: Progress = ignore_progress,
) -> ArrayState:
    """Assimilate recordings of other robots: update the states as with their own experience.

    A state with a context bank starts from the initial learned state, since the recordings are of another body, and
    uses the contexts in its bank. It stores the contexts of the recordings, and then returns to its own context.

    Args:
        backend: Model backend in torch or ONNX, without a context bank.
        state: Not changed.
        progress: Progress of the steps.
    """
    if state.bank is None:
        return replace(replay_recordings(backend, state, recordings, progress), recent=state.recent)
    bank = _make_context_bank(backend, state.bank)
    after = replay_recordings(backend, bank.restart_from_prior(state), recordings, progress)
    return bank.return_to(replace(after, recent=state.recent), state)
