"""Memory family `delta`: fast weights with the gated delta rule."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.delta_rule import delta_scan, delta_update
from wm_robot.memory.fast_weights import FastWeights
from wm_robot.memory.memory import MemoryState


class DeltaMemory(FastWeights):
    """Delta rule memory: each step corrects the value read at its key, by a learned share of the error.

    Source: Yang et al. (2024), arXiv:2412.06464. Differs: decay in physical time and towards a learned
    initial matrix.
    """

    def __init__(self, *, width: int, outcome: int, dt: float, **shape: Any):
        super().__init__(width=width, outcome=outcome, dt=dt, **shape)
        self.strength = nn.Linear(width + outcome, self.heads)

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        x, key, value, log_decay = self._compute_update(h[:, None], e[:, None], w[:, None])
        offset = delta_update(
            state["S"] - self.initial,
            key[..., 0, :],
            value[..., 0, :],
            self._compute_strength(x, w[:, None])[..., 0],
            log_decay[..., 0],
        )
        return {"S": torch.where(w[:, None, None, None] > 0, self.initial + offset, state["S"])}

    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        query = self._normalize_heads(self.query(h))
        x, key, value, log_decay = self._compute_update(h, e, w)
        reads, offset = self._scan_chunks(
            delta_scan, state["S"] - self.initial, query, key, value, self._compute_strength(x, w), log_decay
        )
        written = (w > 0).any(1)[:, None, None, None]
        after = torch.where(written, self.initial + offset, state["S"])
        return self._project_reading(reads + query @ self.initial), {"S": after}

    def _compute_strength(
        self, x: Float[Tensor, "B T X"], w: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B heads T"]:
        return w[:, None] * self.strength(x).sigmoid().transpose(1, 2)
