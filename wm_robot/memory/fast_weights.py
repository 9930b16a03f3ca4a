"""What the families whose life is a set of fast-weight matrices share: how they are asked, keyed and read."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.memory.memory import Reader, State, drawn, forgetting
from wm_robot.memory.multi_head import Headed

Carried = Any
"""What a rule carries from chunk to chunk: a matrix, or mean and covariance."""
Rule = Callable[..., tuple[Tensor, Carried]]
"""Carried, then what each step brings, `B heads T …` → reads and carried."""


class FastWeights(Headed):
    """Key-value matrices `S` that decay towards their learned birth state, each head with its own half-life.

    Decay is in physical time; the values carry the outcome, the keys only what was asked.
    """

    CHUNK = 32

    def __init__(
        self,
        *,
        width: int,
        outcome: int,
        dt: float,
        heads: int = 6,
        size: int = 32,
        half_life: tuple[float, float] = (0.3, 3600.0),
    ):
        """Args:
        half_life: Of the fastest and the slowest head at birth of the base, in s.
        """
        super().__init__()
        self.heads, self.size, self.dt = heads, size, dt
        self.query = nn.Linear(width, heads * size, bias=False)
        self.key = nn.Linear(width, heads * size, bias=False)
        self.value = nn.Linear(width + outcome, heads * size)
        self.forget = nn.Linear(width + outcome, heads)
        self.out = nn.Linear(heads * size, width)
        self.initial = nn.Parameter(0.02 * torch.randn(heads, size, size))
        rates = torch.linspace(math.log(half_life[0]), math.log(half_life[1]), heads)
        self.log_half_life = nn.Parameter(rates)
        """Half-life of each head, log of s."""

    def birth(self, batch: int) -> State:
        return {"S": self.initial.expand(batch, -1, -1, -1)}

    def reader(self, state: State) -> Reader:
        matrix = state["S"]

        def read(h: Tensor) -> Tensor:
            return self._say(self._unit(self.query(h)) @ matrix)

        return read

    def _written(
        self, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a step writes with: query and outcome together `B T D+E`, key and value `B heads T K`, log decay
        `B heads T`. Values are relative to the birth state."""
        # A step that is not written may hold anything, NaN too, which no weight of 0 would silence.
        h, e = (torch.where(w[..., None] > 0, x, 0.0) for x in (h, e))
        x = torch.cat([h, e], -1)
        rate = forgetting(self.log_half_life, self.dt)[:, None]
        log_decay = -w[:, None] * rate * 2 * self.forget(x).sigmoid().transpose(1, 2)
        key = self._unit(self.key(h))
        return x, key, self._split(self.value(x)) - key @ self.initial, log_decay

    def _in_chunks(self, rule: Rule, carried: Carried, *steps: Tensor) -> tuple[Tensor, Carried]:
        """What every step reads, `B heads T V`, and what is carried on, by a rule that takes a chunk at once."""
        reads = []
        for chunk in zip(*(x.split(self.CHUNK, 2) for x in steps), strict=True):
            read, carried = rule(carried, *chunk)
            reads.append(read)
        return torch.cat(reads, 2), carried

    def _say(self, read: Float[Tensor, "B heads T V"]) -> Tensor:
        # Soft: a plain RMS norm would blow up the noise of an empty memory.
        soft = read * torch.rsqrt(read.square().mean(-1, keepdim=True) + 0.1)
        return self.out(soft.transpose(1, 2).flatten(-2))


class Regression(FastWeights):
    """Fast weights that every step informs by as much as it says that its value is worth."""

    LEAST_NOISE = 0.03
    """Of a value, beside a key of length 1; keeps what is inverted well conditioned."""

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

    def _evidence(self, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Key and value `B heads T K`, noise and log decay `B heads T`."""
        x, key, value, log_decay = self._written(h, e, w)
        noise = F.softplus(self.noise(x)).transpose(1, 2) + self.LEAST_NOISE
        # A step of weight w counts as one of w times the precision.
        root = w.sqrt()[:, None, :, None]
        return root * key, root * value, noise, log_decay

    @staticmethod
    def _around(
        mean: Float[Tensor, "B heads K V"], factor: Float[Tensor, "B heads K K"], count: int
    ) -> Float[Tensor, "BN heads K V"]:
        """Weights drawn from their posterior, whose covariance over keys is factor · factorᵀ; values have the unit of
        the noise."""
        noise = drawn(count, *mean.shape[1:])
        return (mean[:, None] + factor[:, None] @ noise).flatten(0, 1)
