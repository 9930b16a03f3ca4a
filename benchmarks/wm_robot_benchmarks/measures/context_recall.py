"""Context recall measure: errors at a return and at a first visit of a context, and false switches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig, get_bank
from wm_robot.evaluation.adaptation import HORIZON, TensorBatch, compute_open_loop_error
from wm_robot.memory.lifetime_state import ContextBankState, map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.model.torch_backend import TorchBackend, to_tensors
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, ignore_progress
from wm_robot.types import Step, TrajectoryBatch

Bank = ContextBankState[np.ndarray]
AFTER_CHANGE = 50
"""Steps after a change in which a switch counts as a response to it."""


@dataclass(frozen=True, kw_only=True)
class ContextVisits:
    """Result of trajectories that visit one context after another, `V` visits of equal length."""

    errors: Float[np.ndarray, "B V P"]
    """Mean square `HORIZON` steps ahead, in units of the one-step change, by steps since the change."""
    num_switches: int = 0
    """Number of switches to a stored context."""
    num_false_switches: int = 0
    """Number of switches to a wrong context, later than `AFTER_CHANGE` after a change."""
    num_wrong_contexts: int = 0
    """Visits whose selected context was wrong at step `AFTER_CHANGE`."""
    num_alarms: int = 0


@torch.inference_mode()
def measure_visits(
    model: WorldModel,
    lives: TrajectoryBatch,
    *,
    visit_steps: int,
    points: Sequence[int],
    change_std: np.ndarray,
    recall: ContextBankConfig | None = None,
    swap_banks: bool = False,
    progress: Progress = ignore_progress,
) -> ContextVisits:
    """Process trajectories and imagine rollouts at several steps of every visit.

    Args:
        visit_steps: Steps of each visit.
        points: Steps since the change at which to imagine.
        recall: Configuration of the context bank; without it, the memory alone.
        swap_banks: Control condition: at each change every robot gets the bank of the next one.
        progress: Progress over the steps.
    """
    view, unit = TensorBatch(lives), torch.from_numpy(change_std)
    count, visits = len(lives), (lives.num_steps - HORIZON) // visit_steps
    plain = TorchBackend(model)
    backend: ModelBackend[np.ndarray] = ContextBank(plain, recall) if recall else plain
    state = backend.initial_state(initial_action=lives.initial_action)
    ones, found = np.ones(count, np.float32), np.empty((count, visits, len(points)))
    witness = _SlotContexts(recall, lives) if recall else None
    for t in range(visit_steps * visits):
        number, since = divmod(t, visit_steps)
        if swap_banks and t and not since:
            state = _swap_banks(state)
        if since in points:
            found[:, number, points.index(since)] = compute_open_loop_error(
                model, to_tensors(state.model_part()), view, t, unit
            ).numpy()
        step = Step(lives.obs[:, t], lives.action[:, t], lives.obs[:, t + 1], ones)
        before, (_, state) = state, backend.update(state, step)
        if witness:
            witness.record_step(t, since, get_bank(before), get_bank(state))
        progress(t + 1, visit_steps * visits)
    if witness is None:
        return ContextVisits(errors=found)
    return ContextVisits(
        errors=found,
        num_switches=int(get_bank(state).switches.sum()),
        num_false_switches=witness.false,
        num_wrong_contexts=witness.mistaken,
        num_alarms=int(get_bank(state).alarms.sum()),
    )


class _SlotContexts:
    """Records the true context of each slot, and so whether a switch is right."""

    def __init__(self, recall: ContextBankConfig, lives: TrajectoryBatch):
        self._world, self._settled = lives.world, recall.settle_steps
        self._filled: Int[np.ndarray, "B N"] = np.full((len(lives), recall.num_slots), -1)
        self.false = self.mistaken = 0

    def record_step(self, t: int, since: int, before: Bank, after: Bank) -> None:
        rows, slots = np.nonzero(before.last_used != after.last_used)
        # The content of a slot is that many steps old.
        self._filled[rows, slots] = self._world[rows, max(0, t - self._settled)]
        now = after.current
        believed = np.where(now >= 0, self._filled[np.arange(len(now)), now], -1)
        wrong = (believed >= 0) & (believed != self._world[:, t])
        switched = before.switches != after.switches
        if since > AFTER_CHANGE:
            self.false += int((switched & wrong).sum())
        elif since == AFTER_CHANGE:
            self.mistaken += int(wrong.sum())


def _swap_banks(state: ArrayState) -> ArrayState:
    return replace(state, bank=map_values(lambda value: np.roll(value, 1, 0), state.bank))
