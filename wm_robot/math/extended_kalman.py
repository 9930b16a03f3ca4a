r"""Measurement update of an extended Kalman filter.

.. math::
    S = J P J^\top + R, \qquad K = P J^\top S^{-1}, \qquad θ ← θ + K ν, \quad P ← P - K S K^\top

Source: Jazwinski (1970), Stochastic Processes and Filtering Theory, ch. 8.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.cholesky import whiten


class EkfEstimate(NamedTuple):
    """Estimate after a measurement."""

    mean: Float[Tensor, "... P"]
    half_gain: Float[Tensor, "... O P"]
    """Wᵀ, for the covariance P - W Wᵀ; see `reduce_covariance`."""
    whitened_innovation: Float[Tensor, "... O"]
    """Innovation, whitened: unit variance if the covariances of the filter are right."""
    half_log_det: Float[Tensor, "..."]
    """½ log det S."""
    variance: Float[Tensor, "... O"]
    """Variance of each innovation, the diagonal of S."""


def ekf_update(
    mean: Float[Tensor, "... P"],
    covariance: Float[Tensor, "... P P"],
    innovation: Float[Tensor, "... O"],
    jacobian: Float[Tensor, "... O P"],
    noise_variance: Float[Tensor, "... O"],
) -> EkfEstimate:
    """Return the estimate after a measurement.

    Args:
        innovation: Measured minus predicted.
        jacobian: Derivative of the prediction by the estimated quantities.
        noise_variance: Variance of each channel, > 0.

    Where rounding leaves S not positive definite, the result is not finite.
    """
    across = covariance @ jacobian.mT
    both = torch.cat([innovation[..., None], across.mT], -1)
    total = jacobian @ across + torch.diag_embed(noise_variance)
    white, deviation = whiten(total, both)
    misfit, half_gain = white.split([1, mean.shape[-1]], -1)
    mean = mean + (half_gain.mT @ misfit)[..., 0]
    return EkfEstimate(
        mean, half_gain, misfit[..., 0], deviation.log().sum(-1), total.diagonal(dim1=-2, dim2=-1)
    )


def reduce_covariance(
    covariance: Float[Tensor, "... P P"], half_gain: Float[Tensor, "... O P"]
) -> Float[Tensor, "... P P"]:
    """Return the covariance after a measurement; a half gain of zero leaves it unchanged, to the bit."""
    # P - K S Kᵀ as P - W Wᵀ keeps it symmetric.
    return covariance - half_gain.mT @ half_gain
