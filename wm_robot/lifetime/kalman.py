"""Family `kalman`: fast weights with a covariance, so that what is well known is hard to change."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.lifetime.fast_weights import FastWeights
from wm_robot.lifetime.memory import State
from wm_robot.ops.kalman_rule import Belief, kalman_scan, kalman_write


class KalmanMemory(FastWeights):
    """Each head regresses values on keys as a Kalman filter does: all evidence counts, old evidence less.

    A newborn learns in large steps and an old life in small ones, without being told its age. Every step says
    how noisy its value is. Source: Harrison et al. (2018), arXiv:1807.08912 (Bayesian regression on learned
    features). Differs: the weights drift, so that a changed world is learned again.
    """

    LEAST_NOISE = 0.03
    """Of a value, beside a key of length 1 and a prior variance of 1; keeps the factor well conditioned."""

    def __init__(
        self,
        *,
        width: int,
        outcome: int,
        dt: float,
        half_life: tuple[float, float] = (0.5, 600.0),
        **shape: Any,
    ):
        super().__init__(width=width, outcome=outcome, dt=dt, half_life=half_life, **shape)
        self.noise = nn.Linear(width + outcome, self.heads)

    def birth(self, batch: int) -> State:
        unit = torch.eye(self.size, device=self.initial.device)
        return super().birth(batch) | {"P": unit.expand(batch, self.heads, -1, -1)}

    def write(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> State:
        key, value, noise, log_decay = self._evidence(h[:, None], e[:, None], w[:, None])
        belief = kalman_write(
            (state["S"] - self.initial, state["P"]),
            key[..., 0, :],
            value[..., 0, :],
            noise[..., 0],
            log_decay[..., 0],
        )
        return self._after(state, belief, w > 0)

    def scan(
        self, state: State, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T D"], State]:
        query = self._unit(self.query(h))
        key, value, noise, log_decay = self._evidence(h, e, w)
        before = (state["S"] - self.initial, state["P"])
        reads, belief = self._in_chunks(kalman_scan, before, query, key, value, noise, log_decay)
        said = self._say(reads + query @ self.initial)
        return said, self._after(state, belief, (w > 0).any(1))

    def _evidence(self, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Key and value `B heads T K`, noise and log decay `B heads T`."""
        x, key, value, log_decay = self._written(h, e, w)
        noise = F.softplus(self.noise(x)).transpose(1, 2) + self.LEAST_NOISE
        # A step of weight w counts as one of w times the precision.
        root = w.sqrt()[:, None, :, None]
        return root * key, root * value, noise, log_decay

    def _after(self, state: State, belief: Belief, written: Tensor) -> State:
        (offset, covariance), written = belief, written[:, None, None, None]
        return {
            "S": torch.where(written, self.initial + offset, state["S"]),
            "P": torch.where(written, covariance, state["P"]),
        }
