"""Migration: replays a robot's own recordings with another base, and measures what the new state is worth.

A lifetime state cannot cross bases, but the experience that made it can. The held-out last part of the recordings
decides whether the new state is accepted. What the recordings do not hold is lost, and reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig
from wm_robot.evaluation.acceptance import compute_mean_error, select_long_stretches, split_held_out
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState, list_values, map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.model.residual import has_residual
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, ignore_progress
from wm_robot.sharing.assimilate import RecordedSteps, RecordingReplay, replay_recordings
from wm_robot.spec import RobotSpec
from wm_robot.types import Episode, Step

MAX_OLD_ERROR_RATIO = 1.1
"""Largest accepted factor on the error of the old state with its own base."""
WINDOW_STEPS = 48
"""Steps of a window on which contexts are compared."""
MIN_WINDOWS, MAX_WINDOW_INTERVAL = 64, 2400
"""Windows in a short log, and largest distance of two windows in a long one, in steps."""


class MigrationSide(NamedTuple):
    """One of the two bases, with its state."""

    model: WorldModel
    backend: ModelBackend[np.ndarray]
    """Back end of the model: torch or ONNX, without a context bank."""
    state: ArrayState
    """Of one robot. Of the new base: the state to start from."""


@dataclass(frozen=True, kw_only=True)
class ContextLosses:
    """Contexts of the old bank: how many the recordings hold, and how many the new state knows again."""

    stored: int
    """Contexts in the old bank."""
    met: int
    """Of these, contexts that predict a part of the recordings better than the old initial state."""
    found: int
    """Of these, contexts that the new state predicts as well, except for `split_tolerance`."""


@dataclass(frozen=True, kw_only=True)
class MigrationResult:
    """Errors on the held-out part, as in `compute_errors`, and what is lost."""

    initial_error: float
    """Of the state to start from, with the new base."""
    migrated_error: float
    old_error: float | None
    """Of the old state with the old base; None without that base."""
    old_steps: int
    """Steps of the old lifetime, without those of a pretrained state."""
    replayed_steps: int
    """Valid steps of the recordings."""
    contexts: ContextLosses | None
    """None without the old base, or without a bank in the old state."""
    has_lost_residual: bool

    @property
    def is_better_than_initial(self) -> bool:
        return self.migrated_error < self.initial_error

    @property
    def is_worse_than_old(self) -> bool:
        """Whether the error is above the limit, or not comparable, since the old base is missing."""
        return self.old_error is None or not self.migrated_error <= MAX_OLD_ERROR_RATIO * self.old_error

    @property
    def lost_steps(self) -> int:
        """Steps of the old lifetime that the recordings do not hold."""
        return max(0, self.old_steps - self.replayed_steps)

    def describe_losses(self) -> list[str]:
        """Describe what does not cross to the new base, a sentence each."""
        lines = list[str]()
        if self.lost_steps:
            lines.append(
                f"{self.lost_steps} of {self.old_steps} steps of the old lifetime are in no recording given here"
            )
        if self.contexts is not None:
            stored, met, found = self.contexts.stored, self.contexts.met, self.contexts.found
            if met < stored:
                lines.append(
                    f"{stored - met} of {stored} stored contexts predict no part of the recordings better than the "
                    "old initial state"
                )
            if found < met:
                lines.append(
                    f"{met - found} of {met} contexts that the recordings hold are not in the new bank"
                )
        if self.has_lost_residual:
            lines.append("the residual corrects weights of the old base; a learner must fit another")
        return lines


def order_by_time(episodes: Sequence[Episode]) -> tuple[list[Episode], bool]:
    """Return the episodes in the order of their stamps, and True; or as given, if stamps of several overlap.

    Stamps overlap where a clock restarted, as that of a simulation.
    """
    ordered = sorted(episodes, key=lambda each: int(each.stamp[0]))
    apart = all(
        one.stamp[-1] <= next_one.stamp[0] for one, next_one in zip(ordered, ordered[1:], strict=False)
    )
    return (ordered, True) if apart else (list(episodes), False)


def try_migration(
    new: MigrationSide,
    old_state: ArrayState,
    old: MigrationSide | None,
    episodes: Sequence[Episode],
    spec: RobotSpec,
    *,
    pretrained_steps: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[ArrayState, MigrationResult]:
    """Replay recordings with the new base, and compare the states on the held-out part.

    The returned state has been updated with the held-out part too, after the comparison.

    Args:
        new: Its state is not changed.
        old: The old base, if it is available.
        episodes: Own experience of the robot, in order.
        pretrained_steps: Steps of the old lifetime that a pretrained state brought.
        progress: Progress of the replay.

    Raises:
        SpecError: If no held-out episode is long enough.
    """
    taken, kept = split_held_out([RecordedSteps.from_episode(each, spec) for each in episodes])
    test, unit = select_long_stretches(kept), new.model.change_std

    def compute_error(side: MigrationSide, state: ArrayState) -> float:
        return compute_mean_error(side.model, side.backend, state, test, unit)

    midway = replay_recordings(new.backend, new.state, taken, progress)
    initial_error, migrated_error = (compute_error(new, state) for state in (new.state, midway))
    after = replay_recordings(new.backend, midway, kept)
    return after, MigrationResult(
        initial_error=initial_error,
        migrated_error=migrated_error,
        old_error=None if old is None else compute_error(old, old.state),
        old_steps=max(0, int(old_state.step[0]) - pretrained_steps),
        replayed_steps=int(after.step[0] - new.state.step[0]),
        contexts=None
        if old is None
        else count_lost_contexts(old, new._replace(state=after), [*taken, *kept]),
        has_lost_residual=old_state.residual is not None and bool(has_residual(old_state).any()),
    )


def count_lost_contexts(
    old: MigrationSide, new: MigrationSide, recordings: Sequence[RecordedSteps]
) -> ContextLosses | None:
    """Count the contexts of the old bank that occur in recordings, and of these the ones that the new state knows.

    Both are decided by likelihoods of recorded steps, in excess of those of the initial state of the old base.
    """
    if old.state.bank is None:
        return None
    config, windows = ContextBankConfig(), cut_windows(recordings)
    before = [compute_likelihoods(old, list_contexts(old.state), window) for window in windows]
    now = [compute_likelihoods(new, list_contexts(new.state), window) for window in windows]
    before_all, now_best = np.stack(before), np.stack([each.max() for each in now])
    born = before_all[:, -1:]
    gains, recovered = before_all[:, :-2] - born, now_best - born[:, 0]
    best = gains.max(1, initial=0.0)[:, None]
    share = 1 - config.split_tolerance
    is_met = (gains > config.min_prior_deficit) & (gains >= share * best)
    worth, again = (gains * is_met).sum(0), (recovered[:, None] * is_met).sum(0)
    met = is_met.any(0)
    return ContextLosses(
        stored=len(met), met=int(met.sum()), found=int((met & (again >= share * worth)).sum())
    )


def cut_windows(recordings: Sequence[RecordedSteps]) -> list[RecordedSteps]:
    """Cut windows of `WINDOW_STEPS` steps at even distances; all of a short log."""
    total = sum(each.num_steps for each in recordings)
    interval = int(np.clip(total // MIN_WINDOWS, WINDOW_STEPS, MAX_WINDOW_INTERVAL))
    return [
        each.select_steps(start, start + WINDOW_STEPS)
        for each in recordings
        for start in range(0, each.num_steps - WINDOW_STEPS + 1, interval)
    ]


def list_contexts(state: ArrayState) -> LearnedState[np.ndarray]:
    """Return the learned states of one robot, a row each: stored contexts, the present one, and the initial one."""
    if state.bank is None:
        return state.learned
    used = np.append(state.bank.last_used[0] >= 0, False)

    def join(slots: np.ndarray, present: np.ndarray) -> np.ndarray:
        return np.concatenate([slots[0][used], present, slots[0][-1:]])

    return map_values(join, state.bank.slots, state.learned)


def compute_likelihoods(
    side: MigrationSide, contexts: LearnedState[np.ndarray], window: RecordedSteps
) -> Float[np.ndarray, "N"]:
    """Compute the mean log-likelihood of the valid steps by each context, in nats per step, as the bank does."""
    comparison = _ContextComparison(side.backend, contexts)
    replay = RecordingReplay(comparison, side.state.model_part(), window)
    for _ in range(window.num_steps):
        replay.update_state()
    return comparison.compute_mean()


class _ContextComparison:
    """Model backend that also predicts each step with learned states that stay as they are."""

    def __init__(self, backend: ModelBackend[np.ndarray], contexts: LearnedState[np.ndarray]):
        self._backend, self._contexts, self._bank = backend, contexts, ContextBank(backend)
        self._sum: np.ndarray | float = 0.0
        self._count = 0.0

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self._backend.initial_state(initial_action=initial_action, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self._backend.predict(state, obs, action)

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        count = len(list_values(self._contexts)[0])

        def repeat(value: np.ndarray) -> np.ndarray:
            return np.repeat(value, count, 0)

        states = LifetimeState(repeat(state.step), repeat(state.recent), self._contexts)
        found = self._backend.predict(states, repeat(step.obs), repeat(step.action))
        likelihood, _ = self._bank.compute_likelihood(found.mean[None], found.log_variance[None], step)
        is_valid = bool(step.valid[0] > 0)
        # An invalid step may contain any value.
        self._sum = self._sum + (likelihood[0] if is_valid else np.zeros(count))
        self._count += is_valid
        return self._backend.update(state, step)

    def compute_mean(self) -> Float[np.ndarray, "N"]:
        return np.asarray(self._sum) / max(self._count, 1.0)
