"""What a bank of remembered conditions is worth: errors on return and at first sight, and false switches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from wm_robot.adaptation.context_bank import BANK, DRAFT, OWN
from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.evaluation.adaptation import HORIZON, LivesView, open_loop
from wm_robot.memory.memory import State
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, unreported
from wm_robot.types import Lives

AFTER_CHANGE = 50
"""Steps after a change in which a switch is an answer to it."""


@dataclass(frozen=True, kw_only=True)
class Visits:
    """How lives went that visit one condition after another, `V` visits of equal length."""

    errors: Float[np.ndarray, "B V P"]
    """Mean square `HORIZON` steps ahead, in units of the one-step change, by steps since the change."""
    switches: int = 0
    """Times that a remembered condition was taken."""
    false_switches: int = 0
    """Of them, those to another condition than the robot was in, later than `AFTER_CHANGE`."""
    mistaken: int = 0
    """Visits at whose step `AFTER_CHANGE` another condition than the true one was believed."""
    alarms: int = 0


@torch.inference_mode()
def visits_of(
    model: WorldModel,
    lives: Lives,
    *,
    visit: int,
    points: Sequence[int],
    change_std: np.ndarray,
    recall: TensorRecall | None = None,
    swap_banks: bool = False,
    progress: Progress = unreported,
) -> Visits:
    """Live lives and imagine from several moments of every visit.

    Args:
        visit: Steps of each.
        points: Steps since the change at which to imagine.
        recall: Without one, the memories alone.
        swap_banks: At each change every life gets the bank of the next: a control.
        progress: Of the steps.
    """
    view, unit = LivesView(lives), torch.from_numpy(change_std)
    count, visits = len(lives), (lives.steps - HORIZON) // visit
    state = model.birth(hold=view.hold)
    state = recall.birth(state) if recall else state
    write = recall.write if recall else model.write
    ones, found = torch.ones(count), np.empty((count, visits, len(points)))
    witness = _Witness(recall, lives) if recall else None
    for t in range(visit * visits):
        number, since = divmod(t, visit)
        if swap_banks and t and not since:
            state = _swapped(state)
        if since in points:
            found[:, number, points.index(since)] = open_loop(model, state, view, t, unit).numpy()
        before, (_, state) = state, write(state, view.obs[:, t], view.action[:, t], view.obs[:, t + 1], ones)
        if witness:
            witness.see(t, since, before, state)
        progress(t + 1, visit * visits)
    if witness is None:
        return Visits(errors=found)
    return Visits(
        errors=found,
        switches=int(state["recall.switches"].sum()),
        false_switches=witness.false,
        mistaken=witness.mistaken,
        alarms=int(state["recall.alarms"].sum()),
    )


class _Witness:
    """Knows which condition each slot was filled in, and so whether a switch is right."""

    def __init__(self, recall: TensorRecall, lives: Lives):
        self._world, self._settled = lives.world, recall.config.settled
        self._filled: Int[np.ndarray, "B N"] = np.full((len(lives), recall.config.slots), -1)
        self.false = self.mistaken = 0

    def see(self, t: int, since: int, before: State, after: State) -> None:
        rows, slots = np.nonzero((before["recall.used"] != after["recall.used"]).numpy())
        # What a slot gets was known that many steps ago.
        self._filled[rows, slots] = self._world[rows, max(0, t - self._settled)]
        now = after["recall.now"].numpy()
        believed = np.where(now >= 0, self._filled[np.arange(len(now)), now], -1)
        wrong = (believed >= 0) & (believed != self._world[:, t])
        switched = (before["recall.switches"] != after["recall.switches"]).numpy()
        if since > AFTER_CHANGE:
            self.false += int((switched & wrong).sum())
        elif since == AFTER_CHANGE:
            self.mistaken += int(wrong.sum())


def _swapped(state: State) -> State:
    return {
        name: value.roll(1, 0) if name.startswith((BANK, DRAFT, OWN)) else value
        for name, value in state.items()
    }
