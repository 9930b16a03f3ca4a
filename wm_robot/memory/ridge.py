"""Memory family `ridge`: sums of all evidence, from which the weights follow in closed form."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.cholesky import cholesky
from wm_robot.math.ridge_regression import Evidence, ridge_scan, ridge_variance, ridge_weights, ridge_write
from wm_robot.memory.fast_weights import Regression
from wm_robot.memory.memory import State


class RidgeMemory(Regression):
    """Ridge memory: each head regresses values on keys over the whole lifetime; old evidence counts less.

    Only this family pools states exactly: evidence is added. It is the information form of `kalman`.
    Source: von Oswald et al. (2023), arXiv:2309.05858. Differs: decay in physical time, a learned noise of each step,
    and a learned initial matrix.
    """

    exportable = False

    LEAST_PRIOR = 0.1
    """Lower bound of Λ: it must outweigh the rounding of the sums of a long lifetime."""

    def __init__(self, *, width: int, outcome: int, dt: float, **shape: Any):
        super().__init__(width=width, outcome=outcome, dt=dt, **shape)
        self.prior = nn.Parameter(torch.zeros(self.heads, self.size))

    def birth(self, batch: int) -> State:
        nothing = torch.zeros(batch, self.heads, self.size, self.size, device=self.initial.device)
        parts = (name + low for name in SUMS for low in ("", LOW))
        return super().birth(batch) | {name: nothing.clone() for name in parts}

    def write(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> State:
        key, value, noise, log_decay = self._evidence(h[:, None], e[:, None], w[:, None])
        brought = (key[..., 0, :], value[..., 0, :], noise[..., 0], log_decay[..., 0])
        after = ridge_write(_whole(state), *(x.double() for x in brought))
        return self._after(state, after, w > 0)

    def scan(
        self, state: State, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T D"], State]:
        if h.shape[1] == 1:
            return self.read(state, h), self.write(state, h[:, 0], e[:, 0], w[:, 0])
        query = self._unit(self.query(h))
        brought = self._evidence(h, e, w)

        def rule(evidence: Evidence, *chunk: Tensor) -> tuple[Tensor, Evidence]:
            return ridge_scan(evidence, self._prior(len(h)), *chunk)

        reads, after = self._in_chunks(rule, Evidence(*(state[name] for name in SUMS)), query, *brought)
        return self._say(reads + query @ self.initial), self._after(state, after, (w > 0).any(1))

    def merge(self, states: Sequence[State]) -> State:
        grams, moments = zip(*map(_whole, states), strict=True)
        return self._solved(Evidence(torch.stack(grams).sum(0), torch.stack(moments).sum(0)))

    def summary(self, state: State) -> Float[Tensor, "B X"]:
        return super().summary({name: state[name] for name in ("S", *SUMS)})

    def variance(self, state: State, h: Float[Tensor, "B N D"]) -> Float[Tensor, "B heads N"]:
        """Return the posterior variance of a query, by head; largest in the initial state."""
        evidence = Evidence(state["H"], state["R"])
        return ridge_variance(evidence, self._prior(len(h)), self._unit(self.query(h)))

    def sampled(self, state: State, count: int) -> State:
        prior = torch.diag_embed(self._prior(len(state["H"])))
        factor = torch.linalg.inv(cholesky(state["H"] + prior)).mT
        return super().sampled(state, count) | {"S": self._around(state["S"], factor, count)}

    def _prior(self, batch: int) -> Float[Tensor, "B heads K"]:
        return (F.softplus(self.prior) + self.LEAST_PRIOR).expand(batch, -1, -1)

    def _solved(self, evidence: Evidence) -> State:
        weights = ridge_weights(evidence, self._prior(len(evidence.gram)).to(evidence.gram.dtype))
        kept = self.initial.dtype
        return {"S": self.initial + weights.to(kept)} | _parts(evidence, kept)

    def _after(self, state: State, evidence: Evidence, written: Tensor) -> State:
        written = written[:, None, None, None]
        return {
            name: torch.where(written, value, state[name]) for name, value in self._solved(evidence).items()
        }


SUMS, LOW = ("H", "R"), "_low"
"""Keys of the sums in a state, and the suffix of the single-precision remainder of each."""


def _whole(state: State) -> Evidence:
    """Join the sums in double precision: long lifetimes amplify single-precision rounding a thousandfold."""
    return Evidence(*(state[name].double() + state[name + LOW] for name in SUMS))


def _parts(evidence: Evidence, kept: torch.dtype) -> State:
    """Split the sums into value and remainder of a lower precision."""
    state = {name: x.to(kept) for name, x in zip(SUMS, evidence, strict=True)}
    return state | {name + LOW: (x - state[name]).to(kept) for name, x in zip(SUMS, evidence, strict=True)}
