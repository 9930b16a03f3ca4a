"""Assimilation: updates a lifetime state with the recorded experience of another robot."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig
from wm_robot.adaptation.gap_filler import GapFiller
from wm_robot.adaptation.reading_checks import ReadingChecks
from wm_robot.memory.lifetime_state import ContextBankState
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.progress import Progress, ignore_progress
from wm_robot.spec import RobotSpec
from wm_robot.types import Episode, Step


class RecordedSteps(NamedTuple):
    """Recorded steps of `B` robots, the same number of each."""

    obs: Float[np.ndarray, "B Tplus1 O"]
    action: Float[np.ndarray, "B T A"]
    """Actions that reached the motors."""
    initial_action: Float[np.ndarray, "B A"]
    """Action in force before the first step."""
    valid: Float[np.ndarray, "B T"]
    is_new: Bool[np.ndarray, "B Tplus1 O"] | None = None
    """Whether each channel is a new reading; None: all are."""
    spec: RobotSpec | None = None
    """Robot, for gaps and frozen readings of its sensors; None for complete readings."""

    @classmethod
    def from_episode(cls, episode: Episode, spec: RobotSpec) -> "RecordedSteps":
        """Convert an episode of one robot. An unknown action before the first one is set equal to it."""
        hold = np.where(np.isfinite(episode.initial_action), episode.initial_action, episode.action[0])
        parts = (episode.obs, episode.action, hold, episode.valid)
        obs, action, initial_action, valid = (np.ascontiguousarray(x, np.float32)[None] for x in parts)
        is_new = None if episode.is_new is None else episode.is_new[None]
        return cls(obs, action, initial_action, valid, is_new, spec)

    @property
    def num_steps(self) -> int:
        return self.action.shape[1]

    def select_steps(self, start: int, stop: int) -> "RecordedSteps":
        """Select steps `start` to `stop`."""
        steps, moments = slice(start, stop), slice(start, stop + 1)
        return self._replace(
            obs=self.obs[:, moments],
            action=self.action[:, steps],
            initial_action=self.action[:, start - 1] if start else self.initial_action,
            valid=self.valid[:, steps],
            is_new=None if self.is_new is None else self.is_new[:, moments],
        )


class RecordingReplay:
    """Replay of a recording: states that are updated with its steps, as an agent would with its own."""

    def __init__(self, backend: ModelBackend[np.ndarray], state: ArrayState, recording: RecordedSteps):
        """Args:
        backend: As the state needs it; see `wrap_backend`.
        state: States at its start; their recent actions become those of the recording.
        """
        recent = np.repeat(recording.initial_action[:, None], state.recent.shape[1], 1)
        self.state, self.num_done = replace(state, recent=recent), 0
        self._backend, self._recording, spec = backend, recording, recording.spec
        self._gap_filler = GapFiller(spec, backend) if spec else None
        if self._gap_filler:
            self._gap_filler.reset(len(recording.obs))
        self._checks = [ReadingChecks(spec) for _ in recording.obs] if spec else []

    @property
    def obs(self) -> Float[np.ndarray, "B O"]:
        """Observation before the next step; the model's estimate where there is no reading."""
        obs = self._mask_faults(self.num_done)
        return self._gap_filler.fill(self.state, obs) if self._gap_filler else obs

    def update_state(self) -> None:
        """Update the states with the next step."""
        t, recording = self.num_done, self._recording
        obs, action, next_obs = self._mask_faults(t), recording.action[:, t], self._mask_faults(t + 1)
        valid = recording.valid[:, t] * ~self._find_frozen_steps(t)
        if self._gap_filler:
            step = self._gap_filler.make_step(self.state, obs, action, next_obs, valid=valid)
        else:
            step = Step(obs, action, next_obs, valid)
        predicted, self.state = self._backend.update(self.state, step)
        self._compare_readings(t, predicted)
        self.num_done += 1

    def _mask_faults(self, t: int) -> Float[np.ndarray, "B O"]:
        """Return the observation at a step, NaN where an optional sensor has a fault."""
        obs = self._recording.obs[:, t]
        return (
            np.stack([each.mask(row) for each, row in zip(self._checks, obs, strict=True)])
            if self._checks
            else obs
        )

    def _find_frozen_steps(self, t: int) -> Bool[np.ndarray, "B"]:
        """Return the rows in which a required channel is frozen before or after a step."""
        both = self._recording.obs[:, t : t + 2]
        if not self._checks:
            return np.zeros(len(both), bool)
        found = [
            any(each.has_frozen_required(obs) for obs in rows)
            for each, rows in zip(self._checks, both, strict=True)
        ]
        return np.array(found)

    def _compare_readings(self, t: int, predicted: Prediction[np.ndarray]) -> None:
        """Compare the readings after a step with its prediction."""
        obs, is_new = self._recording.obs[:, t + 1], self._recording.is_new
        deviation = np.exp(0.5 * predicted.log_variance)
        for row, checks in enumerate(self._checks):
            checks.update(
                t,
                obs[row],
                predicted.mean[row],
                deviation[row],
                is_new=None if is_new is None else is_new[row, t + 1],
                is_predicted=bool(self._recording.valid[row, t]),
            )


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
        replay = RecordingReplay(backend, state, stretch)
        for t in range(stretch.num_steps):
            replay.update_state()
            progress(before + t + 1, total)
        state = replay.state
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
