"""Uncertainty: prediction of a plan with noise and the uncertainty of the lifetime state."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.lifetime_state import LearnedState, LifetimeState, map_values
from wm_robot.model.backend import Prediction
from wm_robot.model.world_model import WorldModel


def sample_states(model: WorldModel, state: LifetimeState[Tensor], num_samples: int) -> LifetimeState[Tensor]:
    """Sample `num_samples` states for each row, `B·num_samples` rows; see `Memory.sample_posterior`."""
    memory = tuple(
        layer.sample_posterior(part, num_samples)
        for layer, part in zip(model.memory_layers, state.memory, strict=True)
    )
    own = replace(state.model_part(), learned=LearnedState((), state.residual))
    rows = map_values(lambda value: value.repeat_interleave(num_samples, 0), own)
    return replace(rows, learned=LearnedState(memory, rows.residual))


def predict_uncertainty(
    model: WorldModel,
    state: LifetimeState[Tensor],
    z: Float[Tensor, "B Z"],
    actions: Float[Tensor, "B H A"],
    *,
    num_samples: int = 8,
) -> Prediction[Tensor]:
    """Predict one plan with the variance of its whole error.

    Args:
        num_samples: Number of states sampled from the posterior of each row.

    Returns:
        `B H O`: as `WorldModel.imagine`, but the log variance is that of the whole error at each step: accumulated
        noise plus uncertainty of the state. `Calibration` corrects it for model errors.
    """
    expected = model.imagine(state, z, actions[:, None])
    mean, noise = expected.mean[:, 0], expected.log_variance[:, 0].exp().cumsum(1)
    plans = actions.repeat_interleave(num_samples, 0)[:, None]
    others, _ = model.imagine(
        sample_states(model, state, num_samples), z.repeat_interleave(num_samples, 0), plans
    )
    unknown = (others[:, 0].unflatten(0, (-1, num_samples)) - mean[:, None]).square().mean(1)
    return Prediction(mean, (noise + unknown).log())
