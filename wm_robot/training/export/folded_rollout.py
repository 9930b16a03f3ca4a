"""Folded rollout: imagination from a single state with few large products, for export."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.memory.film import make_read_state
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.input_layer import make_input_layer
from wm_robot.model.world_model import WorldModel


def imagine_folded(
    model: WorldModel,
    state: LifetimeState[Tensor],
    z: Float[Tensor, "1 Z"],
    actions: Float[Tensor, "1 N H A"],
    *,
    block_size: int = 128,
) -> Float[Tensor, "1 N H O"]:
    """Compute the observations of `WorldModel.imagine` for a single state, with its constants folded into weights.

    For many plans that is much less work: residual and units are multiplied into the weights once.

    Args:
        block_size: Number of plans per block, so that hidden layers stay in the cache.
    """
    residual = state.residual
    assert residual is not None, "the state has no residual"
    c, head = model.config, cast(nn.Linear, model.output_head[1])
    sensors, unit, plans = c.obs, model.change_std / model.obs_std, actions[0]
    # Next observation: the observation itself, the linear change, and the output of the last layer.
    rows = torch.cat([torch.ones_like(model.input_layer.bias), unit])
    entrance, itself = make_input_layer(model, state), torch.eye(sensors)
    weight = entrance.weight * rows[:, None]
    channels = model.channels
    # Of special channels the inputs are not the observation, which is then added below.
    if not channels.has_special:
        weight = weight + F.pad(itself, (0, weight.shape[1] - sensors, c.width, 0))
    up = entrance.up[0] * rows[:, None]
    enter = torch.addmm(weight, up, entrance.down[0]).mT.contiguous()
    changed = entrance.bias * rows + torch.cat(
        [torch.zeros_like(model.input_layer.bias), head.bias[:sensors] * unit]
    )
    bias = F.linear(entrance.down_bias, up, changed)[0]
    last = torch.addmm(
        head.weight[:sensors] * unit[:, None], residual.last.up[0] * unit[:, None], residual.last.down[0]
    ).mT.contiguous()
    context = head.weight[2 * sensors :], head.bias[2 * sensors :]
    readers = [
        memory.open_single_reader(make_read_state(state, i)) for i, memory in enumerate(model.memory_layers)
    ]

    before = state.recent[0, -1:].expand(len(plans), -1)
    following = []
    for part in torch.cat([before, plans.flatten(1)], 1).split(block_size):
        y, latent = (x.expand(len(part), -1) for x in z.split([sensors, c.context], 1))
        seen = []
        for k in range(plans.shape[1]):
            # The previous action and the action.
            acted = part[:, k * c.action : (k + 2) * c.action]
            observed = [channels.expand(torch.cat([y, latent], 1))] if channels.wraps else [y, latent]
            given = torch.cat([*observed, acted], 1)
            h, straight = torch.addmm(bias, given, enter).split([c.width, sensors], 1)
            h = F.silu(h)
            for i, read in enumerate(readers):
                h = model.apply_block(i, h, read(model.norms[i](h)))
            normal = model.output_head[0](h)
            if channels.has_special:
                straight = straight + y
            y, latent = torch.addmm(straight, normal, last), F.linear(normal, *context).tanh()
            y = channels.restore_rotations(y, normalised=True)
            seen.append(y)
        following.append(torch.cat(seen, 1))
    middle, unit = (x.repeat(plans.shape[1]) for x in (model.obs_mean, model.obs_std))
    return (torch.cat(following) * unit + middle).unflatten(1, (-1, sensors))[None]
