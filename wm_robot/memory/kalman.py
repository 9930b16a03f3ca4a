"""Memory family `kalman`: fast weights with a covariance, which reduces changes of well-estimated weights."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.cholesky import cholesky
from wm_robot.math.kalman_rule import Belief, kalman_scan, kalman_write
from wm_robot.memory.fast_weights import Regression
from wm_robot.memory.memory import State, root


class KalmanMemory(Regression):
    """Kalman memory: each head regresses values on keys; old evidence counts less.

    Updates are large in the initial state and shrink with evidence; no step count is needed. The value noise of each
    step is learned. Source: Harrison et al. (2018), arXiv:1807.08912 (Bayesian regression on learned features).
    Differs: the weights drift, so that changed dynamics are learned again.
    """

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

    def merge(self, states: Sequence[State]) -> State:
        """Merge the weights of all states by their precision; the common prior counts once."""
        unit = torch.eye(self.size, device=self.initial.device)
        precisions = [torch.cholesky_inverse(cholesky(state["P"])) for state in states]
        offsets = [state["S"] - self.initial for state in states]
        evidence = sum(known @ offset for known, offset in zip(precisions, offsets, strict=True))
        covariance = torch.cholesky_inverse(
            cholesky(torch.stack(precisions).sum(0) - (len(states) - 1) * unit)
        )
        return {"S": self.initial + covariance @ evidence, "P": covariance}

    def sampled(self, state: State, count: int) -> State:
        return super().sampled(state, count) | {"S": self._around(state["S"], root(state["P"]), count)}

    def _after(self, state: State, belief: Belief, written: Tensor) -> State:
        (offset, covariance), written = belief, written[:, None, None, None]
        return {
            "S": torch.where(written, self.initial + offset, state["S"]),
            "P": torch.where(written, covariance, state["P"]),
        }
