"""Memory family `kalman`: fast weights with a covariance, which reduces changes of well-estimated weights."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.cholesky import cholesky_or_nan
from wm_robot.math.kalman_rule import Belief, kalman_scan, kalman_update
from wm_robot.memory.fast_weights import RegressionMemory
from wm_robot.memory.memory import MemoryState, sqrt_psd


class KalmanMemory(RegressionMemory):
    """Kalman memory: each head regresses values on keys; old evidence counts less.

    Updates are large in the initial state and shrink with evidence; no step count is needed. The value noise of each
    step is learned. Source: Harrison et al. (2018), arXiv:1807.08912 (Bayesian regression on learned features).
    Differs: the weights drift, so that changed dynamics are learned again.
    """

    def initial_state(self, batch: int) -> MemoryState:
        unit = torch.eye(self.size, device=self.initial.device)
        return super().initial_state(batch) | {"P": unit.expand(batch, self.heads, -1, -1)}

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        key, value, noise, log_decay = self._compute_evidence(h[:, None], e[:, None], w[:, None])
        belief = kalman_update(
            (state["S"] - self.initial, state["P"]),
            key[..., 0, :],
            value[..., 0, :],
            noise[..., 0],
            log_decay[..., 0],
        )
        return self._apply_belief(state, belief, w > 0)

    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        query = self._normalize_heads(self.query(h))
        key, value, noise, log_decay = self._compute_evidence(h, e, w)
        before = (state["S"] - self.initial, state["P"])
        reads, belief = self._scan_chunks(kalman_scan, before, query, key, value, noise, log_decay)
        said = self._project_reading(reads + query @ self.initial)
        return said, self._apply_belief(state, belief, (w > 0).any(1))

    def merge_states(self, states: Sequence[MemoryState]) -> MemoryState:
        """Merge the weights of all states by their precision; the common prior counts once."""
        unit = torch.eye(self.size, device=self.initial.device)
        precisions = [torch.cholesky_inverse(cholesky_or_nan(state["P"])) for state in states]
        offsets = [state["S"] - self.initial for state in states]
        evidence = sum(known @ offset for known, offset in zip(precisions, offsets, strict=True))
        covariance = torch.cholesky_inverse(
            cholesky_or_nan(torch.stack(precisions).sum(0) - (len(states) - 1) * unit)
        )
        return {"S": self.initial + covariance @ evidence, "P": covariance}

    def sample_posterior(self, state: MemoryState, num_samples: int) -> MemoryState:
        return super().sample_posterior(state, num_samples) | {
            "S": self._sample_weights(state["S"], sqrt_psd(state["P"]), num_samples)
        }

    def _apply_belief(self, state: MemoryState, belief: Belief, written: Tensor) -> MemoryState:
        (offset, covariance), written = belief, written[:, None, None, None]
        return {
            "S": torch.where(written, self.initial + offset, state["S"]),
            "P": torch.where(written, covariance, state["P"]),
        }
