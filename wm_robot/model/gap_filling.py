"""Gap filling: where a sensor has no reading, the model's own prediction takes its place, and is no evidence.

An observation is NaN in the channels without a reading. The filled observation is what model, planner and the next
prediction use; the mask of `Step.measured` says what is evidence.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step


class FilledObservations(NamedTuple):
    """Observations whose gaps are filled, and the mask of evidence for `WorldModel.scan`."""

    obs: Float[Tensor, "B Tplus1 O"]
    measured: Float[Tensor, "B T O"]
    """0 for a channel of a step whose reading before or after is missing."""


@torch.no_grad()
def fill_gaps(
    model: WorldModel,
    state: LifetimeState[Tensor],
    obs: Float[Tensor, "B Tplus1 O"],
    action: Float[Tensor, "B T A"],
    valid: Float[Tensor, "B T"],
    truth: Float[Tensor, "B Tplus1 P"] | None = None,
) -> FilledObservations:
    """Fill the gaps of a trajectory step by step, each with the prediction from the filled steps before.

    No gradient flows through what is filled, so that a scan of the filled trajectory trains in parallel.

    Args:
        obs: NaN where there is no reading. Gaps of the first observation are filled with the mean observation.
        truth: See `WorldModel.scan`.
    """
    known = torch.isfinite(obs)
    measured = (known[:, :-1] & known[:, 1:]).to(obs.dtype)
    filled = [torch.where(known[:, 0], obs[:, 0], model.obs_mean)]
    for t in range(action.shape[1]):
        expected = model.predict(state, filled[t], action[:, t])
        filled.append(torch.where(known[:, t + 1], obs[:, t + 1], expected.mean))
        step = Step(
            filled[t],
            action[:, t],
            filled[t + 1],
            valid[:, t],
            truth=None if truth is None else truth[:, t + 1],
            measured=measured[:, t],
        )
        _, state = model.update(state, step)
    return FilledObservations(torch.stack(filled, 1), measured)
