"""Input layer of a world model: normalisation and action terms folded into one affine map."""

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.linear import apply_linear
from wm_robot.memory.lifetime_state import LifetimeState

if TYPE_CHECKING:
    from wm_robot.model.world_model import WorldModel


class InputLayer(NamedTuple):
    """Affine input layer of a batch of states: the weights of the base plus their residual."""

    weight: Float[Tensor, "W G"]
    bias: Float[Tensor, "W"]
    down: Float[Tensor, "B R G"]
    down_bias: Float[Tensor, "B R"]
    up: Float[Tensor, "B W R"]
    width: int
    """Width of the hidden layer; the remaining outputs are the linear sensor change."""

    def apply(self, inputs: Float[Tensor, "B *N G"]) -> tuple[Tensor, Tensor]:
        """Compute the first hidden layer and the linear sensor change."""
        constant = self.down_bias.unflatten(0, (-1, *[1] * (inputs.ndim - 2)))
        aside = apply_linear(inputs, self.down) + constant
        both = F.linear(inputs, self.weight, self.bias) + apply_linear(aside, self.up)
        h, straight = both.split([self.width, both.shape[-1] - self.width], -1)
        return F.silu(h), straight


def make_input_layer(model: "WorldModel", state: LifetimeState[Tensor]) -> InputLayer:
    """Fold `ask`, `skip` and the residual into one map of the latent, the previous action and the action.

    The latent is the expanded one; see `ObservedChannels.expand`.
    """
    assert state.residual is not None, "the state has no residual"
    first = state.residual.first
    latent_size = model.channels.num_features + model.config.context
    slopes, constant = compute_affine_input(model, latent_size, 2)
    weight = torch.cat([model.input_layer.weight, model.linear_skip.weight])
    bias = torch.cat([model.input_layer.bias, torch.zeros_like(model.obs_mean)])
    return InputLayer(
        weight=weight @ slopes,
        bias=bias + weight @ constant,
        down=first.down @ slopes,
        down_bias=first.down @ constant,
        up=first.up,
        width=model.config.width,
    )


def compute_affine_input(
    model: "WorldModel", latent_size: int, num_actions: int
) -> tuple[Float[Tensor, "I G"], Float[Tensor, "I"]]:
    """Compute the input of a layer as an affine map of a latent and actions: its matrix, and its value at zero.

    Actions enter in their own units, and relative to the joint positions.
    """
    c = model.config

    def layer_input(given: Float[Tensor, "N G"]) -> Float[Tensor, "N I"]:
        z, *each = given.split([latent_size] + [c.action] * num_actions, 1)
        terms = (
            _subtract_joint_positions(model, z[:, : c.obs], _compute_action_terms(model, x)) for x in each
        )
        return torch.cat([z, *terms], 1)

    unit = torch.eye(latent_size + num_actions * c.action, device=model.obs_mean.device)
    constant = layer_input(torch.zeros_like(unit[:1]))
    return (layer_input(unit) - constant).mT, constant[0]


def _compute_action_terms(model: "WorldModel", action: Tensor) -> Tensor:
    """Compute the scaled action, and for servos the scaled set-point: the terms independent of the joint."""
    scaled = (action - model.action_mean) / model.action_std
    origin = model.obs_mean[model.servo_obs] + model.servo_error_mean
    target = action.index_select(-1, model.servo_action)
    return torch.cat([scaled, (target - origin) / model.servo_error_std], -1)


def _subtract_joint_positions(model: "WorldModel", y: Tensor, terms: Tensor) -> Tensor:
    """Subtract the joint positions from the set-points: the position error of each servo."""
    if not len(model.servo_obs):
        return terms
    scaled, target = terms.split([model.config.action, len(model.servo_obs)], -1)
    unit = model.obs_std[model.servo_obs] / model.servo_error_std
    return torch.cat([scaled, target - y.index_select(-1, model.servo_obs) * unit], -1)
