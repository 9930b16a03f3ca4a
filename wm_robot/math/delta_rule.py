r"""Gated delta rule: a fast-weight matrix that decays, corrects its error and stores the value.

.. math::
    S ← e^{g} S, \quad u = β (v - k S), \quad S ← S + k^\top u

Decay comes first, the error is taken on the decayed matrix. Source: Yang et al. (2024), Gated Delta Networks,
arXiv:2412.06464.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def delta_update(
    state: Float[Tensor, "... K V"],
    key: Float[Tensor, "... K"],
    value: Float[Tensor, "... V"],
    strength: Float[Tensor, "..."],
    log_decay: Float[Tensor, "..."],
) -> Float[Tensor, "... K V"]:
    """Return the matrix after one write.

    Args:
        key: Of unit length.
        strength: β in [0, 1]; 0 writes nothing.
        log_decay: g ≤ 0; 0: no decay.
    """
    state = state * log_decay.exp()[..., None, None]
    recalled = (key[..., None, :] @ state)[..., 0, :]
    error = strength[..., None] * (value - recalled)
    return state + key[..., :, None] * error[..., None, :]


def delta_scan(
    state: Float[Tensor, "... K V"],
    query: Float[Tensor, "... T K"],
    key: Float[Tensor, "... T K"],
    value: Float[Tensor, "... T V"],
    strength: Float[Tensor, "... T"],
    log_decay: Float[Tensor, "... T"],
) -> tuple[Float[Tensor, "... T V"], Float[Tensor, "... K V"]]:
    """Return the value that each query reads *before* the write of its step, and the matrix after all writes.

    Equals `T` calls of `delta_update`, computed in parallel: the corrected values `u` of a chunk solve one
    unit lower triangular system.
    """
    total = log_decay.cumsum(-1)
    before = total - log_decay
    steps = key.shape[-2]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=key.device).tril(-1)
    # Difference first, mask, then exp: the upper half would overflow.
    fade = _exp_masked(total[..., :, None] - total[..., None, :], earlier)
    coupling = strength[..., :, None] * fade * (key @ key.transpose(-1, -2))
    remembered = total.exp()[..., None] * (key @ state)
    unit = torch.eye(steps, dtype=key.dtype, device=key.device)
    update = torch.linalg.solve_triangular(
        unit + coupling, strength[..., None] * (value - remembered), upper=False, unitriangular=True
    )
    fade_read = _exp_masked(before[..., :, None] - total[..., None, :], earlier)
    read = before.exp()[..., None] * (query @ state) + (fade_read * (query @ key.transpose(-1, -2))) @ update
    left = (total[..., -1:] - total).exp()
    last = total[..., -1].exp()[..., None, None] * state + (key * left[..., None]).transpose(-1, -2) @ update
    return read, last


def _exp_masked(exponent: Tensor, mask: Tensor) -> Tensor:
    return exponent.masked_fill(~mask, -torch.inf).exp()
