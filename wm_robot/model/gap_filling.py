"""Gap filling: where a sensor has no reading, the model's own prediction takes its place, and is no evidence.

An observation is NaN in the channels without a reading. The filled observation is what model, planner and the next
prediction use; the mask of `Step.measured` says what is evidence.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step


def scan_with_gaps(
    model: WorldModel,
    state: LifetimeState[Tensor],
    obs: Float[Tensor, "B Tplus1 O"],
    action: Float[Tensor, "B T A"],
    valid: Float[Tensor, "B T"],
    truth: Float[Tensor, "B Tplus1 P"] | None = None,
    *,
    first: Float[Tensor, "B O"] | None = None,
) -> tuple[Prediction[Tensor], Float[Tensor, "B Tplus1 O"], LifetimeState[Tensor]]:
    """Scan steps whose observations have gaps, one by one; see `WorldModel.scan`.

    Args:
        obs: NaN where there is no reading.
        first: What fills the gaps of the first observation; the mean observation by default.

    Returns:
        Predictions, the filled observations, and the state after all steps.
    """
    measured = torch.isfinite(obs)
    filled = [torch.where(measured[:, 0], obs[:, 0], model.obs_mean if first is None else first)]
    predictions = []
    for t in range(action.shape[1]):
        expected = model.predict(state, filled[t], action[:, t])
        filled.append(torch.where(measured[:, t + 1], obs[:, t + 1], expected.mean))
        step = Step(
            filled[t],
            action[:, t],
            filled[t + 1],
            valid[:, t],
            truth=None if truth is None else truth[:, t + 1],
            measured=(measured[:, t] & measured[:, t + 1]).to(obs.dtype),
        )
        predicted, state = model.update(state, step)
        predictions.append(predicted)
    joined = Prediction(*(torch.stack(parts, 1) for parts in zip(*predictions, strict=True)))
    return joined, torch.stack(filled, 1), state
