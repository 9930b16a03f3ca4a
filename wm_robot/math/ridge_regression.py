r"""Recursive ridge regression in closed form: additive statistics, and the weights computed from them.

.. math::
    H ← e^{g} H + k^\top k / r, \quad R ← e^{g} R + k^\top v / r, \qquad W = (H + Λ)^{-1} R

The statistics of two robots add up to those of one robot with both experiences. Λ does not decay: without it, a
direction without excitation would lose all information. Source: Hoerl and Kennard (1970), Technometrics 12(1);
as a layer, von Oswald et al. (2023), arXiv:2309.05858.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.cholesky import cholesky_or_nan


class Evidence(NamedTuple):
    """Sufficient statistics of the transitions, as sums."""

    gram: Float[Tensor, "... K K"]
    """H."""
    moment: Float[Tensor, "... K V"]
    """R."""


def solve_ridge_weights(evidence: Evidence, prior: Float[Tensor, "... K"]) -> Float[Tensor, "... K V"]:
    """Return W, the weights that fit the evidence best.

    Args:
        prior: Diagonal of Λ, > 0.
    """
    factor = cholesky_or_nan(evidence.gram + torch.diag_embed(prior))
    return torch.cholesky_solve(evidence.moment, factor)


def compute_ridge_variance(
    evidence: Evidence, prior: Float[Tensor, "... K"], query: Float[Tensor, "... N K"]
) -> Float[Tensor, "... N"]:
    """Return the posterior variance of the values that the queries read, for noise of the variance r of the steps."""
    factor = cholesky_or_nan(evidence.gram + torch.diag_embed(prior))
    return torch.linalg.solve_triangular(factor, query.mT, upper=False).square().sum(-2)


def ridge_update(
    evidence: Evidence,
    key: Float[Tensor, "... K"],
    value: Float[Tensor, "... V"],
    noise_variance: Float[Tensor, "..."],
    log_decay: Float[Tensor, "..."],
) -> Evidence:
    """Return the evidence after one step.

    Args:
        key: Zero adds nothing.
        noise_variance: Variance r > 0 of the value.
        log_decay: g ≤ 0; 0: no decay.
    """
    decay, scaled = log_decay.exp()[..., None, None], (key / noise_variance[..., None])[..., None]
    return Evidence(
        decay * evidence.gram + scaled * key[..., None, :],
        decay * evidence.moment + scaled * value[..., None, :],
    )


def ridge_scan(
    evidence: Evidence,
    prior: Float[Tensor, "... K"],
    query: Float[Tensor, "... T K"],
    key: Float[Tensor, "... T K"],
    value: Float[Tensor, "... T V"],
    noise_variance: Float[Tensor, "... T"],
    log_decay: Float[Tensor, "... T"],
) -> tuple[Float[Tensor, "... T V"], Evidence]:
    """Return the value that each query reads *before* the write of its step, and the evidence after all writes.

    Equals `T` calls of `ridge_update`, each after a read with `solve_ridge_weights`.
    """
    total = log_decay.cumsum(-1)
    before = total - log_decay
    steps, size = key.shape[-2:]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=key.device).tril(-1)
    # Masked before the exp: the upper half would overflow.
    fade = (before[..., :, None] - total[..., None, :]).masked_fill(~earlier, -torch.inf).exp()
    left = (total[..., -1:] - total).exp()
    scaled = key / noise_variance[..., None]
    own = (scaled[..., :, None] * key[..., None, :]).flatten(-2)
    start = before.exp()[..., None] * evidence.gram.flatten(-2)[..., None, :]
    grams = (start + fade @ own).unflatten(-1, (size, size))
    factor = cholesky_or_nan(grams + torch.diag_embed(prior)[..., None, :, :])
    # One right-hand side a step, the query: the moments of each step then need not be stored.
    asked = torch.cholesky_solve(query[..., None], factor)[..., 0]
    read = before.exp()[..., None] * (asked @ evidence.moment) + (fade * (asked @ scaled.mT)) @ value
    faded, brought = total[..., -1].exp()[..., None, None], (left[..., None] * scaled).mT
    return read, Evidence(faded * evidence.gram + brought @ key, faded * evidence.moment + brought @ value)
