r"""Kalman rule: fast weights with a covariance.

Every column of a matrix W drifts as an Ornstein-Uhlenbeck process around zero with unit covariance at rest, and a
step observes :math:`v = k W + \text{noise}`. The state is the mean M of W and the covariance P, which is
the same for all columns.

.. math::
    M ← e^{g} M, \quad P ← e^{2g} P + (1 - e^{2g}) I, \qquad
    K = P k^\top / (k P k^\top + r), \quad M ← M + K (v - k M), \quad P ← P - K k P

The delta rule is the same with a constant P; here the step shrinks as evidence accumulates, separately in each
direction.
Source: Kalman (1960), J. Basic Eng. 82(1); the parallel form is the innovations form of Gaussian-process regression,
Rasmussen and Williams (2006), ch. 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.cholesky import cholesky_or_nan

Belief = tuple[Tensor, Tensor]
"""Mean M `… K V` and covariance P `… K K`."""


def kalman_update(
    belief: Belief,
    key: Float[Tensor, "... K"],
    value: Float[Tensor, "... V"],
    noise_variance: Float[Tensor, "..."],
    log_decay: Float[Tensor, "..."],
) -> Belief:
    """Return mean and covariance after one write.

    Args:
        key: Zero writes nothing.
        noise_variance: Variance r > 0 of the value.
        log_decay: g ≤ 0; 0: no decay.
    """
    mean, covariance = belief
    decay = log_decay.exp()[..., None, None]
    mean, covariance = decay * mean, _decay_covariance(covariance, decay)
    towards = (covariance @ key[..., None])[..., 0]
    gain = towards / ((towards * key).sum(-1) + noise_variance)[..., None]
    error = value - (key[..., None, :] @ mean)[..., 0, :]
    covariance = covariance - gain[..., :, None] * towards[..., None, :]
    # Rounding must not let the two halves drift apart over a lifetime.
    covariance = 0.5 * (covariance + covariance.transpose(-1, -2))
    return mean + gain[..., :, None] * error[..., None, :], covariance


def kalman_scan(
    belief: Belief,
    query: Float[Tensor, "... T K"],
    key: Float[Tensor, "... T K"],
    value: Float[Tensor, "... T V"],
    noise_variance: Float[Tensor, "... T"],
    log_decay: Float[Tensor, "... T"],
) -> tuple[Float[Tensor, "... T V"], Belief]:
    """Return the value that each query reads *before* the write of its step, and the belief after all writes.

    Equals `T` calls of `kalman_update`. The Cholesky factor of the values' covariance is causal: its rows up to t
    depend on the steps up to t alone, so one factor serves every step.
    """
    mean, covariance = belief
    total = log_decay.cumsum(-1)
    before = total - log_decay
    steps = key.shape[-2]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=key.device).tril(-1)
    turned, across = key @ covariance, key.transpose(-1, -2)
    alike, known = key @ across, turned @ across
    late, early = total[..., :, None], total[..., None, :]
    # Cov(W_i, W_j) = e^{g_i + g_j} (P - I) + e^{-|g_i - g_j|} I, with g counted from the start of the scan.
    values = (late + early).exp() * (known - alike) + (-(late - early).abs()).exp() * alike
    factor = cholesky_or_nan(values + torch.diag_embed(noise_variance))

    asked = before[..., :, None]
    alike, known = query @ across, query @ turned.transpose(-1, -2)
    # Masked before the exp: the upper half would overflow.
    reads = (asked + early).exp() * (known - alike) + (asked - early).masked_fill(
        ~earlier, -torch.inf
    ).exp() * alike
    reads = torch.where(earlier, reads, 0.0)
    last = total[..., -1:]
    weights = (last + total).exp()[..., None] * (turned - key) + (last - total).exp()[..., None] * key

    error = value - total.exp()[..., None] * (key @ mean)
    right = torch.cat([error, reads.transpose(-1, -2), weights], -1)
    solved = torch.linalg.solve_triangular(factor, right, upper=False)
    surprise, read, weight = solved.split([value.shape[-1], steps, key.shape[-1]], -1)
    read = torch.where(earlier.transpose(-1, -2), read, 0.0).transpose(-1, -2) @ surprise
    read = read + before.exp()[..., None] * (query @ mean)
    decay = last.exp()[..., None]
    mean = decay * mean + weight.transpose(-1, -2) @ surprise
    return read, (mean, _decay_covariance(covariance, decay) - weight.transpose(-1, -2) @ weight)


def _decay_covariance(covariance: Tensor, decay: Tensor) -> Tensor:
    """Return the covariance after decay towards the identity."""
    kept = decay.square()
    unit = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return kept * covariance + (1 - kept) * unit
