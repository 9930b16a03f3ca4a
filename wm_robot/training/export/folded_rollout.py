"""Folded rollout: imagination from a single state with few large products, for export."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from wm_robot.memory.baselines import NullMemory
from wm_robot.memory.film import make_read_state
from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.memory.memory import Reader
from wm_robot.memory.semiparametric import SemiparametricMemory
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

    For many plans that is much less work: residual and units are multiplied into the weights once. Of a memory and
    the frozen network that it competes with, the weights of the one in use are selected, once for all plans.

    Args:
        block_size: Number of plans per block, so that hidden layers stay in the cache.
    """
    if model.frozen is not None:
        return _imagine_selected(model, model.frozen, state, z, actions, block_size)
    readers = [
        memory.open_single_reader(make_read_state(state, i)) for i, memory in enumerate(model.memory_layers)
    ]
    return _Rollout(model)(state, z, actions, lambda: readers, None, block_size)


def _imagine_selected(
    model: WorldModel,
    network: WorldModel,
    state: LifetimeState[Tensor],
    z: Tensor,
    actions: Tensor,
    block_size: int,
) -> Tensor:
    """Compute the observations by the model or its frozen network, by which of them is in use."""
    (memory,), (baseline,) = model.memory_layers, network.memory_layers
    assert isinstance(memory, SemiparametricMemory) and isinstance(baseline, NullMemory)
    is_frozen, start = memory.find_frozen(state.memory[0])[0], model.make_frozen_state(state)

    def select(frozen: Tensor, own: Tensor) -> Tensor:
        return torch.where(is_frozen, frozen, own)

    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    weights = {
        f"model.{name}": select(value, own[name])
        for name, value in (*network.named_parameters(), *network.named_buffers())
        if value.is_floating_point() and name in own and value.shape == own[name].shape
    }
    gain, bias = (
        select(*pair)
        for pair in zip(
            baseline.compute_modulation(start.memory[0]),
            memory.compute_modulation(make_read_state(state, 0)),
            strict=True,
        )
    )
    matrix, constant = (
        torch.where(is_frozen, 0.0, part[0]) for part in memory.fold_correction(state.memory[0])
    )
    z = select(network.observe(start, model.decode(z)), z)
    actions = select(actions, model.map_commands(state, actions))
    recent = select(state.recent, model.map_commands(state, state.recent))
    residual = map_values(lambda value: torch.where(is_frozen, 0.0, value), state.residual)
    given = (
        replace(state.with_residual(residual), recent=recent),
        z,
        actions,
        lambda: [memory.film.open_folded_reader(gain, bias)],
        (matrix, constant),
        block_size,
    )
    found: Tensor = functional_call(_Rollout(model), weights, given)
    return found


class _Rollout(nn.Module):
    """Rollout of one network, as a module: so that its weights can be replaced."""

    def __init__(self, model: WorldModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        state: LifetimeState[Tensor],
        z: Float[Tensor, "1 Z"],
        actions: Float[Tensor, "1 N H A"],
        open_readers: Callable[[], Sequence[Reader]],
        correction: tuple[Float[Tensor, "O D"], Float[Tensor, "O"]] | None,
        block_size: int,
    ) -> Float[Tensor, "1 N H O"]:
        return _imagine_one(self.model, state, z, actions, open_readers(), correction, block_size)


def _imagine_one(
    model: WorldModel,
    state: LifetimeState[Tensor],
    z: Tensor,
    actions: Tensor,
    readers: Sequence[Reader],
    correction: tuple[Tensor, Tensor] | None,
    block_size: int,
) -> Tensor:
    """Compute the observations by one network; see `imagine_folded`.

    Args:
        correction: Matrix and constant of a correction of the change by the first query.
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
    if correction is not None:
        matrix, constant = correction
        correct = (matrix * unit[:, None]).mT.contiguous()
        bias = bias + torch.cat([torch.zeros_like(model.input_layer.bias), constant * unit])
    last = torch.addmm(
        head.weight[:sensors] * unit[:, None], residual.last.up[0] * unit[:, None], residual.last.down[0]
    ).mT.contiguous()
    context = head.weight[2 * sensors :], head.bias[2 * sensors :]

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
                query = model.norms[i](h)
                if i == 0 and correction is not None:
                    straight = torch.addmm(straight, query, correct)
                h = model.apply_block(i, h, read(query))
            normal = model.output_head[0](h)
            if channels.has_special:
                straight = straight + y
            y, latent = torch.addmm(straight, normal, last), F.linear(normal, *context).tanh()
            y = channels.restore_rotations(y, normalised=True)
            seen.append(y)
        following.append(torch.cat(seen, 1))
    middle, unit = (x.repeat(plans.shape[1]) for x in (model.obs_mean, model.obs_std))
    return (torch.cat(following) * unit + middle).unflatten(1, (-1, sensors))[None]
