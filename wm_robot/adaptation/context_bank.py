"""Context bank: stores the learned state of each context and restores it when the context returns.

A bank holds learned states of contexts in which the robot settled. Each of them, and the initial state, predicts
every step. A slot replaces the present memories when it has predicted better since some step, by enough evidence
(CUSUM test). Source of the test: Page (1954), Biometrika 41.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from wm_robot.errors import check_at_least
from wm_robot.memory.lifetime_state import ContextBankState, LifetimeState, map_values
from wm_robot.memory.state_arrays import ArrayState, expand_array_like
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.types import Step

Tree = TypeVar("Tree")
"""A state or a part of one."""
Bank = ContextBankState[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ContextBankConfig:
    """Config of the context bank: its size, and the thresholds of its tests."""

    num_slots: int = 8
    """Number of stored contexts; a new one replaces the one unused for longest."""
    switch_threshold: float = 14.0
    """Nats by which a slot must have predicted better, since any step, to be selected soon after an alarm or a
    switch; twice as many in a settled context."""
    max_step_evidence: float = 8.0
    """Largest evidence of one step, in nats: a jolt is no evidence."""
    cusum_drift: float = 1.0
    """Nats per step that are subtracted from the evidence (CUSUM drift)."""
    variance_factor: float = 3.0
    """Factor on predicted variances: successive errors are correlated and carry less evidence."""
    clip: float = 16.0
    """Upper bound of the squared error of a channel, in predicted variances."""
    prior_handicap: float = 2.0
    """Factor on `switch_threshold` for the initial state, which has no learned content."""
    alarm_threshold: float = 10.0
    """Accumulated excess of squared errors, in predicted variances, that ends the present context."""
    expected_error: float = 2.0
    """Squared error of a channel, in predicted variances, without excess; bounded at four times that."""
    settle_steps: int = 24
    """Steps without an alarm after which the learned state of that many steps ago is stored."""
    merge_tolerance: float = 0.1
    """Share of the deficit of the initial state below which a slot counts as the same context."""
    split_tolerance: float = 0.4
    """The same share, above which the present context differs from its slot: it changed without an alarm."""
    min_prior_deficit: float = 1.0
    """Deficit of the initial state, in nats per step, below which these two shares are not tested."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "num_slots", "settle_steps", section="context_bank")


class ContextBank:
    """Model backend with a context bank around another one. Its whole state is in the lifetime state."""

    def __init__(self, backend: ModelBackend[np.ndarray], config: ContextBankConfig | None = None):
        self.backend, self.config = backend, config or ContextBankConfig()

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        """Return the initial state with an empty bank; see `ModelBackend.initial_state`."""
        return self.add_bank(self.backend.initial_state(initial_action=initial_action, truth=truth))

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self.backend.predict(state, obs, action)

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """Update as `ModelBackend.update`, then select a stored context or store the present one."""
        expected, written = self.backend.update(state, step)
        return expected, self.update_bank(state, expected, written, step)

    def add_bank(self, state: ArrayState) -> ArrayState:
        """Return the same initial state with an empty bank."""
        c, batch = self.config, len(state.step)
        count = np.zeros(batch, np.int64)
        bank = ContextBankState(
            # The initial state is one more slot, the last, and is never written.
            slots=map_values(lambda v: np.repeat(v[:, None], c.num_slots + 1, 1), state.learned),
            draft=map_values(np.copy, state.learned),
            last_used=np.full((batch, c.num_slots), -1),
            current=count - 1,
            calm_steps=count.copy(),
            switches=count.copy(),
            alarms=count.copy(),
            lead=np.zeros((batch, c.num_slots + 1), np.float32),
            shortfall=np.zeros((batch, c.num_slots + 1), np.float32),
            excess=np.zeros(batch, np.float32),
        )
        return replace(state, bank=bank)

    def update_bank(
        self,
        state: ArrayState,
        prediction: Prediction[np.ndarray],
        updated: ArrayState,
        step: Step[np.ndarray],
    ) -> ArrayState:
        """Select a stored context or store the present one, after a step.

        Args:
            state: State before the step.
            prediction: Prediction of the step, from `update` of the backend.
            updated: State after the step, from the same update.
        """
        bank, seen = get_bank(state), step.valid > 0
        slots = self._predict_slots(state, bank, step)
        # One call: of so few numbers, many take no longer than one.
        mean, log_variance = (
            np.concatenate([now[:, None], each], 1) for now, each in zip(prediction, slots, strict=True)
        )
        likelihood, misfits = self.compute_likelihood(mean, log_variance, step)
        now, others, misfit = likelihood[:, 0], likelihood[:, 1:], misfits[:, 0]
        bank, switched, best = self._update_evidence(bank, seen, now, others, misfit)
        after = replace(updated, bank=bank)
        if switched.any():
            rows = np.arange(len(best))
            recalled = map_values(lambda slots: slots[rows, best], bank.slots)
            after = replace(after, learned=choose_rows(switched, recalled, updated.learned))
        return self._store_settled(after, seen)

    def restart_from_prior(self, state: ArrayState) -> ArrayState:
        """Return the state with its bank and the initial learned state in use: for data of another body."""
        bank = get_bank(state)
        initial = map_values(lambda slots: slots[:, -1], bank.slots)
        bank = replace(_clear_all_evidence(bank), current=np.full_like(bank.current, -1), draft=initial)
        return replace(state, learned=initial, bank=bank)

    def return_to(self, state: ArrayState, earlier: ArrayState) -> ArrayState:
        """Return to the context of `earlier`, with the bank of `state`.

        A context in which `state` has just settled is stored too.
        """
        bank, then = get_bank(state), get_bank(earlier)
        bank = self._store_draft(
            state, bank, bank.calm_steps >= self.config.settle_steps, self._select_slot(bank)
        )
        slot = np.maximum(then.current, 0)[:, None]
        used_then, used_now = (np.take_along_axis(each.last_used, slot, 1) for each in (then, bank))
        current = np.where((used_now != used_then)[:, 0], -1, then.current)
        bank = replace(_clear_all_evidence(bank), current=current, draft=then.draft)
        return replace(state, learned=earlier.learned, bank=bank)

    def merge_banks(self, merged: ArrayState, states: Sequence[ArrayState]) -> ArrayState:
        """Merge the banks of several states into the merged state, the last used contexts first."""
        c, banks = self.config, [get_bank(state) for state in states]
        used = np.concatenate([bank.last_used for bank in banks], 1)
        ages = np.concatenate(
            [state.step[:, None] - bank.last_used for state, bank in zip(states, banks, strict=True)], 1
        )
        oldest = np.iinfo(ages.dtype).max
        chosen = np.where(used >= 0, ages, oldest).argsort(axis=1, kind="stable")[:, : c.num_slots]
        held = np.take_along_axis(used, chosen, 1) >= 0
        rows = np.arange(len(chosen))[:, None]

        def join(*slots: np.ndarray) -> np.ndarray:
            stored = np.concatenate([each[:, :-1] for each in slots], 1)[rows, chosen]
            return np.concatenate([stored, slots[0][:, -1:]], 1)

        since = merged.step[:, None] - np.take_along_axis(ages, chosen, 1)
        bank = replace(
            get_bank(self.add_bank(merged)),
            slots=map_values(join, *(bank.slots for bank in banks)),
            last_used=np.where(held, since, -1),
        )
        return replace(merged, bank=bank)

    def _update_evidence(
        self,
        bank: Bank,
        is_valid: Bool[np.ndarray, "B"],
        own_likelihood: Float[np.ndarray, "B"],
        slot_likelihoods: Float[np.ndarray, "B N1"],
        mean_squared_error: Float[np.ndarray, "B"],
    ) -> tuple[Bank, Bool[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """Update the evidence with a step.

        Args:
            own_likelihood: Log-likelihood of the step by the present memories.
            slot_likelihoods: By every slot, and last by the initial state.
            mean_squared_error: Squared error a channel by the present memories.

        Returns:
            The bank, which rows take a slot in place of their memories, and which slot.
        """
        c, each = self.config, is_valid[:, None]
        held = _append_initial(bank.last_used >= 0, True)
        # An invalid step may contain any value.
        gain = np.where(each & held, slot_likelihoods - own_likelihood[:, None], np.float32(0))
        lead = (
            np.maximum(
                bank.lead
                + gain.clip(-c.max_step_evidence, c.max_step_evidence)
                - np.float32(c.cusum_drift) * each,
                0,
            )
            * held
        )
        less = bank.shortfall + (-gain - bank.shortfall) / np.float32(c.settle_steps)
        short = np.where(each, less, bank.shortfall)
        more = np.minimum(mean_squared_error, 4 * c.expected_error) - np.float32(c.expected_error)
        excess = np.where(is_valid, np.maximum(bank.excess + more, 0), bank.excess)

        alarmed = is_valid & (excess > c.alarm_threshold)
        settled = ~alarmed & (bank.calm_steps >= c.settle_steps)
        needed = np.full(lead.shape[1], c.switch_threshold, np.float32)
        needed[-1] *= c.prior_handicap
        ahead = lead - needed * (1 + settled[:, None])
        best = ahead.argmax(1)
        switched = is_valid & (ahead.max(1) > 0)
        broken = switched | alarmed
        believed = np.where(best == c.num_slots, -1, best)
        after = replace(
            bank,
            current=np.where(switched, believed, np.where(alarmed, -1, bank.current)),
            calm_steps=np.where(broken, 0, bank.calm_steps + is_valid),
            switches=bank.switches + switched,
            alarms=bank.alarms + alarmed,
            lead=np.where(switched[:, None], np.float32(0), lead),
            shortfall=np.where(broken[:, None], np.float32(0), short),
            excess=np.where(broken, np.float32(0), excess),
        )
        return after, switched, best

    def _store_settled(self, state: ArrayState, is_valid: Bool[np.ndarray, "B"]) -> ArrayState:
        """Every `settle_steps` steps without an alarm: store the draft in the bank and start a new draft."""
        c, bank = self.config, get_bank(state)
        calm = bank.calm_steps
        due = is_valid & (calm % c.settle_steps == 0)
        if not due.any():
            return state
        kept = self._store_draft(state, bank, due & (calm >= 2 * c.settle_steps), self._select_slot(bank))
        draft = choose_rows(due, state.learned, bank.draft)
        return replace(state, bank=replace(kept, draft=draft))

    def _store_draft(
        self, state: ArrayState, bank: Bank, mature: Bool[np.ndarray, "B"], slot: Int[np.ndarray, "B"]
    ) -> Bank:
        """Store the draft in its slot, for rows whose draft is mature."""
        at = mature[:, None] & (np.arange(self.config.num_slots) == slot[:, None])
        chosen = _append_initial(at, False)
        return replace(
            bank,
            slots=choose_rows(chosen, map_values(lambda draft: draft[:, None], bank.draft), bank.slots),
            last_used=np.where(at, state.step[:, None], bank.last_used),
            current=np.where(mature, slot, bank.current),
            # The deficit was that of the replaced content.
            shortfall=np.where(chosen, np.float32(0), bank.shortfall),
        )

    def _select_slot(self, bank: Bank) -> Int[np.ndarray, "B"]:
        """Select the slot `B` of the draft: the present one, an equal one, an empty one or the longest unused."""
        c = self.config
        short, used, now = bank.shortfall, bank.last_used, bank.current
        slots, birth = short[:, :-1], short[:, -1:]
        informed = birth > c.min_prior_deficit
        same = (used >= 0) & informed & (slots < np.float32(c.merge_tolerance) * birth)
        other = np.where(same.any(1), np.where(same, slots, np.inf).argmin(1), used.argmin(1))
        present = np.maximum(now, 0)[:, None]
        moved = informed & (np.take_along_axis(slots, present, 1) > np.float32(c.split_tolerance) * birth)
        return np.where((now >= 0) & ~moved[:, 0], present[:, 0], other)

    def _predict_slots(self, state: ArrayState, bank: Bank, step: Step[np.ndarray]) -> Prediction[np.ndarray]:
        """Predict this step with every slot of the bank: mean and log variance, `B N+1 O`."""
        count = self.config.num_slots + 1
        each = partial(np.repeat, repeats=count, axis=0)
        slots = map_values(lambda v: v.reshape(-1, *v.shape[2:]), bank.slots)
        expected = self.backend.predict(
            LifetimeState(each(state.step), each(state.recent), slots), each(step.obs), each(step.action)
        )
        return map_values(lambda x: x.reshape(-1, count, x.shape[-1]), expected)

    def compute_likelihood(
        self,
        mean: Float[np.ndarray, "*B O"],
        log_variance: Float[np.ndarray, "*B O"],
        step: Step[np.ndarray],
    ) -> tuple[Float[np.ndarray, "*B"], Float[np.ndarray, "*B"]]:
        """Compute the log-likelihood of an outcome in nats, and its squared error per channel, clipped at `clip`.

        Channels without a reading take no part.
        """
        # An invalid step may contain any value.
        with np.errstate(over="ignore", invalid="ignore"):
            square = np.minimum(
                (step.next_obs[:, None] - mean) ** 2 * np.exp(-log_variance), np.float32(self.config.clip)
            )
        evidence = square / np.float32(self.config.variance_factor) + log_variance
        if step.measured is None:
            return np.float32(-0.5) * evidence.sum(-1), square.mean(-1)
        known = step.measured[:, None]
        return np.float32(-0.5) * (evidence * known).sum(-1), average_measured(square, known)


def average_measured(
    values: Float[np.ndarray, "*B O"], measured: Float[np.ndarray, "*#B O"]
) -> Float[np.ndarray, "*B"]:
    """Average over the channels that are readings; 0 where there is none."""
    return (values * measured).sum(-1) / np.maximum(measured.sum(-1), np.float32(1))


def get_bank(state: ArrayState) -> Bank:
    """Return the bank of a state that has one."""
    assert state.bank is not None, "the state has no context bank"
    return state.bank


def choose_rows(chosen: Bool[np.ndarray, "*B"], one: Tree, other: Tree) -> Tree:
    """Select `one` in the rows of a mask, `other` elsewhere."""
    return map_values(lambda x, y: np.where(expand_array_like(chosen, y), x, y), one, other)


def mark_unsettled(state: ArrayState, changed: Bool[np.ndarray, "B"]) -> ArrayState:
    """Mark rows that were changed externally as unsettled: nothing is stored before they settle again."""
    if state.bank is None or not changed.any():
        return state
    return replace(state, bank=_clear_evidence(state.bank, changed))


def _clear_evidence(bank: Bank, changed: Bool[np.ndarray, "B"]) -> Bank:
    def clear_rows(value: np.ndarray) -> np.ndarray:
        return np.where(expand_array_like(changed, value), np.zeros_like(value), value)

    return replace(
        bank,
        calm_steps=clear_rows(bank.calm_steps),
        lead=clear_rows(bank.lead),
        shortfall=clear_rows(bank.shortfall),
        excess=clear_rows(bank.excess),
    )


def _clear_all_evidence(bank: Bank) -> Bank:
    return _clear_evidence(bank, np.ones(len(bank.current), bool))


def _append_initial(slots: Bool[np.ndarray, "B N"], initial_value: bool) -> Bool[np.ndarray, "B N1"]:
    """Append the value of the initial state to the slots."""
    return np.concatenate([slots, np.full((len(slots), 1), initial_value)], 1)
