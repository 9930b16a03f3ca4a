"""Memory family `ridge`: sums of all evidence, from which the weights follow in closed form."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.cholesky import cholesky_or_nan
from wm_robot.math.ridge_regression import (
    Evidence,
    compute_ridge_variance,
    ridge_scan,
    ridge_update,
    solve_ridge_weights,
)
from wm_robot.memory.fast_weights import RegressionMemory
from wm_robot.memory.memory import MemoryState


class RidgeMemory(RegressionMemory):
    """Ridge memory: each head regresses values on keys over the whole lifetime; old evidence counts less.

    Only this family pools states exactly: evidence is added. It is the information form of `kalman`.
    Source: von Oswald et al. (2023), arXiv:2309.05858. Differs: decay in physical time, a learned noise of each step,
    and a learned initial matrix.
    """

    exportable = False

    MIN_PRIOR = 0.1
    """Lower bound of Λ: it must outweigh the rounding of the sums of a long lifetime."""

    def __init__(self, *, width: int, outcome: int, dt: float, **shape: Any):
        super().__init__(width=width, outcome=outcome, dt=dt, **shape)
        self.prior = nn.Parameter(torch.zeros(self.heads, self.size))

    def initial_state(self, batch: int) -> MemoryState:
        nothing = torch.zeros(batch, self.heads, self.size, self.size, device=self.initial.device)
        parts = (name + low for name in SUM_KEYS for low in ("", LOW_SUFFIX))
        return super().initial_state(batch) | {name: nothing.clone() for name in parts}

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        key, value, noise, log_decay = self._compute_evidence(h[:, None], e[:, None], w[:, None])
        brought = (key[..., 0, :], value[..., 0, :], noise[..., 0], log_decay[..., 0])
        after = ridge_update(_join_sums(state), *(x.double() for x in brought))
        return self._apply_evidence(state, after, w > 0)

    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        if h.shape[1] == 1:
            return self.read(state, h), self.update(state, h[:, 0], e[:, 0], w[:, 0])
        query = self._normalize_heads(self.query(h))
        brought = self._compute_evidence(h, e, w)

        def rule(evidence: Evidence, *chunk: Tensor) -> tuple[Tensor, Evidence]:
            return ridge_scan(evidence, self._compute_prior(len(h)), *chunk)

        reads, after = self._scan_chunks(rule, Evidence(*(state[name] for name in SUM_KEYS)), query, *brought)
        return self._project_reading(reads + query @ self.initial), self._apply_evidence(
            state, after, (w > 0).any(1)
        )

    def merge_states(self, states: Sequence[MemoryState]) -> MemoryState:
        grams, moments = zip(*map(_join_sums, states), strict=True)
        return self._solve_weights(Evidence(torch.stack(grams).sum(0), torch.stack(moments).sum(0)))

    def summarize(self, state: MemoryState) -> Float[Tensor, "B X"]:
        return super().summarize({name: state[name] for name in ("S", *SUM_KEYS)})

    def compute_variance(self, state: MemoryState, h: Float[Tensor, "B N D"]) -> Float[Tensor, "B heads N"]:
        """Return the posterior variance of a query, by head; largest in the initial state."""
        evidence = Evidence(state["H"], state["R"])
        return compute_ridge_variance(
            evidence, self._compute_prior(len(h)), self._normalize_heads(self.query(h))
        )

    def sample_posterior(self, state: MemoryState, num_samples: int) -> MemoryState:
        prior = torch.diag_embed(self._compute_prior(len(state["H"])))
        factor = torch.linalg.inv(cholesky_or_nan(state["H"] + prior)).mT
        return super().sample_posterior(state, num_samples) | {
            "S": self._sample_weights(state["S"], factor, num_samples)
        }

    def _compute_prior(self, batch: int) -> Float[Tensor, "B heads K"]:
        return (F.softplus(self.prior) + self.MIN_PRIOR).expand(batch, -1, -1)

    def _solve_weights(self, evidence: Evidence) -> MemoryState:
        weights = solve_ridge_weights(
            evidence, self._compute_prior(len(evidence.gram)).to(evidence.gram.dtype)
        )
        kept = self.initial.dtype
        return {"S": self.initial + weights.to(kept)} | _split_sums(evidence, kept)

    def _apply_evidence(self, state: MemoryState, evidence: Evidence, written: Tensor) -> MemoryState:
        written = written[:, None, None, None]
        return {
            name: torch.where(written, value, state[name])
            for name, value in self._solve_weights(evidence).items()
        }


SUM_KEYS, LOW_SUFFIX = ("H", "R"), "_low"
"""Keys of the sums in a state, and the suffix of the single-precision remainder of each."""


def _join_sums(state: MemoryState) -> Evidence:
    """Join the sums in double precision: long lifetimes amplify single-precision rounding a thousandfold."""
    return Evidence(*(state[name].double() + state[name + LOW_SUFFIX] for name in SUM_KEYS))


def _split_sums(evidence: Evidence, dtype: torch.dtype) -> MemoryState:
    """Split the sums into value and remainder of a lower precision."""
    state = {name: x.to(dtype) for name, x in zip(SUM_KEYS, evidence, strict=True)}
    return state | {
        name + LOW_SUFFIX: (x - state[name]).to(dtype) for name, x in zip(SUM_KEYS, evidence, strict=True)
    }
