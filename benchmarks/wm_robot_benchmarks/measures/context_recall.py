"""Context recall measure: errors at a return and at a first visit of a context, and false switches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from wm_robot.adaptation.context_bank import Recall, RecallConfig, bank_of
from wm_robot.evaluation.adaptation import HORIZON, LivesView, open_loop
from wm_robot.memory.lifetime_state import ContextBankState, map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.model.torch_backend import ModelLives, tensors
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, unreported
from wm_robot.types import Lives, Step

Bank = ContextBankState[np.ndarray]
AFTER_CHANGE = 50
"""Steps after a change in which a switch counts as a response to it."""


@dataclass(frozen=True, kw_only=True)
class Visits:
    """Result of trajectories that visit one context after another, `V` visits of equal length."""

    errors: Float[np.ndarray, "B V P"]
    """Mean square `HORIZON` steps ahead, in units of the one-step change, by steps since the change."""
    switches: int = 0
    """Number of switches to a stored context."""
    false_switches: int = 0
    """Number of switches to a wrong context, later than `AFTER_CHANGE` after a change."""
    mistaken: int = 0
    """Visits whose selected context was wrong at step `AFTER_CHANGE`."""
    alarms: int = 0


@torch.inference_mode()
def visits_of(
    model: WorldModel,
    lives: Lives,
    *,
    visit: int,
    points: Sequence[int],
    change_std: np.ndarray,
    recall: RecallConfig | None = None,
    swap_banks: bool = False,
    progress: Progress = unreported,
) -> Visits:
    """Process trajectories and imagine rollouts at several steps of every visit.

    Args:
        visit: Steps of each visit.
        points: Steps since the change at which to imagine.
        recall: Configuration of the context bank; without it, the memory alone.
        swap_banks: Control condition: at each change every robot gets the bank of the next one.
        progress: Progress over the steps.
    """
    view, unit = LivesView(lives), torch.from_numpy(change_std)
    count, visits = len(lives), (lives.steps - HORIZON) // visit
    plain = ModelLives(model)
    backend: ModelBackend[np.ndarray] = Recall(plain, recall) if recall else plain
    state = backend.birth(hold=lives.hold)
    ones, found = np.ones(count, np.float32), np.empty((count, visits, len(points)))
    witness = _Witness(recall, lives) if recall else None
    for t in range(visit * visits):
        number, since = divmod(t, visit)
        if swap_banks and t and not since:
            state = _swapped(state)
        if since in points:
            found[:, number, points.index(since)] = open_loop(
                model, tensors(state.model_part()), view, t, unit
            ).numpy()
        step = Step(lives.obs[:, t], lives.action[:, t], lives.obs[:, t + 1], ones)
        before, (_, state) = state, backend.write(state, step)
        if witness:
            witness.see(t, since, bank_of(before), bank_of(state))
        progress(t + 1, visit * visits)
    if witness is None:
        return Visits(errors=found)
    return Visits(
        errors=found,
        switches=int(bank_of(state).switches.sum()),
        false_switches=witness.false,
        mistaken=witness.mistaken,
        alarms=int(bank_of(state).alarms.sum()),
    )


class _Witness:
    """Records the true context of each slot, and so whether a switch is right."""

    def __init__(self, recall: RecallConfig, lives: Lives):
        self._world, self._settled = lives.world, recall.settled
        self._filled: Int[np.ndarray, "B N"] = np.full((len(lives), recall.slots), -1)
        self.false = self.mistaken = 0

    def see(self, t: int, since: int, before: Bank, after: Bank) -> None:
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


def _swapped(state: ArrayState) -> ArrayState:
    return replace(state, bank=map_values(lambda value: np.roll(value, 1, 0), state.bank))
