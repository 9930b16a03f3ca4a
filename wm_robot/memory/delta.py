"""Memory family `delta`: fast weights with the gated delta rule."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.delta_rule import delta_scan, delta_write
from wm_robot.memory.fast_weights import FastWeights
from wm_robot.memory.memory import State


class DeltaMemory(FastWeights):
    """Delta rule memory: each step corrects the value read at its key, by a learned share of the error.

    Source: Yang et al. (2024), arXiv:2412.06464. Differs: decay in physical time and towards a learned
    initial matrix.
    """

    def __init__(self, *, width: int, outcome: int, dt: float, **shape: Any):
        super().__init__(width=width, outcome=outcome, dt=dt, **shape)
        self.strength = nn.Linear(width + outcome, self.heads)

    def write(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> State:
        x, key, value, log_decay = self._written(h[:, None], e[:, None], w[:, None])
        offset = delta_write(
            state["S"] - self.initial,
            key[..., 0, :],
            value[..., 0, :],
            self._strength(x, w[:, None])[..., 0],
            log_decay[..., 0],
        )
        return {"S": torch.where(w[:, None, None, None] > 0, self.initial + offset, state["S"])}

    def scan(
        self, state: State, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T D"], State]:
        query = self._unit(self.query(h))
        x, key, value, log_decay = self._written(h, e, w)
        reads, offset = self._in_chunks(
            delta_scan, state["S"] - self.initial, query, key, value, self._strength(x, w), log_decay
        )
        written = (w > 0).any(1)[:, None, None, None]
        after = torch.where(written, self.initial + offset, state["S"])
        return self._say(reads + query @ self.initial), {"S": after}

    def _strength(self, x: Float[Tensor, "B T X"], w: Float[Tensor, "B T"]) -> Float[Tensor, "B heads T"]:
        return w[:, None] * self.strength(x).sigmoid().transpose(1, 2)
