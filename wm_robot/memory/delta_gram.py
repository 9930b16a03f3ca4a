"""Memory family `delta-gram`: the delta rule with the Gram matrix of its keys, so that states can be pooled."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.cholesky import cholesky_or_nan
from wm_robot.memory.delta import DeltaMemory
from wm_robot.memory.memory import MemoryState


class DeltaGramMemory(DeltaMemory):
    """`delta` with the Gram matrix `G` of its keys, weighted by write strength and decayed like the matrices.

    Only `merge_states` and `compute_variance` read `G`. Learning is exactly that of `delta`, from the same weights.
    """

    PRIOR_EVIDENCE = 1e-3
    """Prior evidence of each direction; an unexplored direction keeps its initial value."""

    def initial_state(self, batch: int) -> MemoryState:
        nothing = torch.zeros(batch, self.heads, self.size, self.size, device=self.initial.device)
        return super().initial_state(batch) | {"G": nothing}

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        return super().update(state, h, e, w) | self._update_gram(state, h[:, None], e[:, None], w[:, None])

    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        read, after = super().scan(state, h, e, w)
        return read, after | self._update_gram(state, h, e, w)

    def merge_states(self, states: Sequence[MemoryState]) -> MemoryState:
        """Merge the matrices of all states, weighted by their Gram matrices in each direction.

        Offsets count from the initial state. Equal values from several states stay equal and gain evidence.
        """
        grams = [state["G"] for state in states]
        pooled = torch.stack(grams).sum(0)
        known = sum(gram @ (state["S"] - self.initial) for gram, state in zip(grams, states, strict=True))
        factor = cholesky_or_nan(pooled + self.PRIOR_EVIDENCE * self._identity_like(pooled))
        offset = torch.cholesky_solve(torch.as_tensor(known), factor)
        return {"S": self.initial + offset, "G": pooled}

    def compute_variance(self, state: MemoryState, h: Float[Tensor, "B N D"]) -> Float[Tensor, "B heads N"]:
        """Return how unexplored a query is, by head: 1 for the initial state, 0 where evidence is large."""
        query = self._normalize_heads(self.query(h))
        factor = cholesky_or_nan(state["G"] + self._identity_like(state["G"]))
        return (query * torch.cholesky_solve(query.mT, factor).mT).sum(-1)

    def summarize(self, state: MemoryState) -> Float[Tensor, "B X"]:
        return super().summarize({"S": state["S"]})

    def _update_gram(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        x, key, _, log_decay = self._compute_update(h, e, w)
        left = log_decay.sum(-1, keepdim=True)
        weight = self._compute_strength(x, w) * (left - log_decay.cumsum(-1)).exp()
        gram = left.exp()[..., None] * state["G"] + (weight[..., None] * key).mT @ key
        return {"G": torch.where((w > 0).any(1)[:, None, None, None], gram, state["G"])}

    @staticmethod
    def _identity_like(gram: Tensor) -> Tensor:
        return torch.eye(gram.shape[-1], device=gram.device)
