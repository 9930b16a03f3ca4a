r"""Linear correction: Bayesian regression of what a model leaves over on learned features, with a learned prior.

With features :math:`f`, and for channel :math:`o` the prior deviation :math:`s_o` and the noise :math:`r_o`:

.. math::
    y_o = f^⊤ v_o, \quad v_o ← v_o + \frac{s_o^2 ν_o}{s_o^2 f^⊤ P f + r_o} P f, \quad
    P ← P - c \, P f f^⊤ P, \quad c = \tfrac{1}{O} \sum_o \frac{s_o^2}{s_o^2 f^⊤ P f + r_o}

All channels share the covariance :math:`P`, so that it costs no more with more of them.

Source: Harrison et al. (2018), arXiv:1807.08912. Differs: one covariance for channels of different noise, and
forgetting.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CorrectionState(NamedTuple):
    """Weights of `K` corrections, and their covariance in units of the prior."""

    weights: Float[Tensor, "B K O F"]
    covariance: Float[Tensor, "B K F F"]


class CorrectionPrediction(NamedTuple):
    """Correction of a step, and what its update needs again."""

    mean: Float[Tensor, "B K O"]
    variance: Float[Tensor, "B K O"]
    """Of the mean, by the uncertain weights."""
    gain: Float[Tensor, "B K F"]
    """P f."""
    spread: Float[Tensor, "B K 1"]
    """fᵀ P f."""


class LinearCorrection(nn.Module):
    """Features and prior of linear corrections; their state is with the caller."""

    def __init__(self, *, width: int, channels: int, dt: float, num_features: int = 40):
        """Args:
        width: Size of a query.
        channels: Number of channels that are corrected.
        """
        super().__init__()
        self.channels, self.num_features, self.dt = channels, num_features, dt
        self.features = nn.Linear(width, num_features)
        """Features of the query, of unit prior variance."""
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(0.1)))
        """Prior deviation of each channel, log, in units of the one-step change."""
        self.log_noise = nn.Parameter(torch.full((channels,), math.log(3.0)))
        """Factor on the predicted variance, log."""
        self.log_floor = nn.Parameter(torch.full((channels,), math.log(1e-3)))
        """Variance that is added to it, log."""
        self.log_half_life = nn.Parameter(torch.tensor(math.log(20.0)))
        """Half-life of the weights, log of s."""

    @property
    def prior_parameters(self) -> list[nn.Parameter]:
        """Scales, noise and half-life."""
        return [self.log_scale, self.log_noise, self.log_floor, self.log_half_life]

    def make_prior(self, batch: int, number: int) -> CorrectionState:
        """Return `number` corrections of zero for each row."""
        unit = torch.eye(self.num_features, device=self.log_scale.device)
        weights = self.log_scale.new_zeros(batch, number, self.channels, self.num_features)
        return CorrectionState(weights, unit.expand(batch, number, -1, -1))

    def predict(self, state: CorrectionState, query: Float[Tensor, "B D"]) -> CorrectionPrediction:
        """Predict by each correction."""
        features = self.features(query)[:, None]
        gain = (state.covariance @ features[..., None])[..., 0]
        spread = (gain * features).sum(-1, keepdim=True)
        mean = (state.weights @ features[..., None])[..., 0]
        return CorrectionPrediction(mean, (2 * self.log_scale).exp() * spread, gain, spread)

    def compute_noise(self, variance: Float[Tensor, "*B O"]) -> Float[Tensor, "*B O"]:
        """Compute the variance of what is left over from the predicted one."""
        return self.log_noise.exp() * variance + self.log_floor.exp()

    def update(
        self,
        state: CorrectionState,
        predicted: CorrectionPrediction,
        innovation: Float[Tensor, "B K O"],
        noise: Float[Tensor, "B K O"],
        known: Bool[Tensor, "B K O"],
    ) -> CorrectionState:
        """Update the corrections with a step, then forget; one that is not finite stays as it was.

        Args:
            innovation: 0 for a channel without a reading.
            noise: As `compute_noise`; any positive number for such a channel.
            known: Which channels are readings.
        """
        scale = (2 * self.log_scale).exp()
        share = known * scale / (predicted.variance + noise)
        weights = state.weights + (share * innovation)[..., None] * predicted.gain[..., None, :]
        certainty = share.sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp_min(1)
        # Rounding may not make the covariance negative.
        certainty = torch.minimum(certainty, 0.999 / predicted.spread.clamp_min(1e-6))
        gain = predicted.gain
        covariance = state.covariance - certainty[..., None] * gain[..., None] * gain[..., None, :]
        forgotten = 1 - torch.exp(-math.log(2) * self.dt / self.log_half_life.exp())
        unit = torch.eye(self.num_features, device=weights.device)
        covariance = (1 - forgotten) * covariance + forgotten * unit
        sound = torch.isfinite(weights).all(-1).all(-1)[..., None, None]
        return CorrectionState(
            torch.where(sound, weights, state.weights), torch.where(sound, covariance, state.covariance)
        )

    def regress(
        self,
        query: Float[Tensor, "B T D"],
        outcome: Float[Tensor, "B T O"],
        variance: Float[Tensor, "B T O"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B T O"]]:
        """Predict and update along trajectories, for training; return mean and variance before each outcome.

        Args:
            outcome: What the model leaves over.
            variance: Predicted variance of it.
        """
        state, found = self.make_prior(len(query), 1), []
        for t in range(query.shape[1]):
            predicted = self.predict(state, query[:, t])
            noise = self.compute_noise(variance[:, t, None])
            found.append(torch.stack([predicted.mean[:, 0], (predicted.variance + noise)[:, 0]]))
            innovation = outcome[:, t, None] - predicted.mean
            state = self.update(
                state, predicted, innovation, noise, torch.ones_like(innovation, dtype=torch.bool)
            )
        mean, total = torch.stack(found, 2)
        return mean, total
