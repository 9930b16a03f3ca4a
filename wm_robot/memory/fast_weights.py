"""Fast weights: the shared part of memory families whose state is a set of key-value matrices."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.memory.memory import MemoryState, Reader, decay_rate, fixed_normal
from wm_robot.memory.multi_head import MultiHeadMemory

ScanState = Any
"""State of a rule between chunks: a matrix, or mean and covariance."""
ScanRule = Callable[..., tuple[Tensor, ScanState]]
"""State, then the inputs of each step, `B heads T …` → reads and state."""


class FastWeights(MultiHeadMemory):
    """Key-value matrices `S` that decay towards their learned initial state, each head with its own half-life.

    Decay is in physical time. Values encode query and outcome, keys encode the query alone.
    """

    CHUNK_STEPS = 32

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
        half_life: Initial half-life of the fastest and the slowest head, in s; training changes it.
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

    def initial_state(self, batch: int) -> MemoryState:
        return {"S": self.initial.expand(batch, -1, -1, -1)}

    def open_reader(self, state: MemoryState) -> Reader:
        matrix = state["S"]

        def read(h: Tensor) -> Tensor:
            return self._project_reading(self._normalize_heads(self.query(h)) @ matrix)

        return read

    def _compute_update(
        self, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute query and outcome `B T D+E`, key and value `B heads T K`, and log decay `B heads T` of a step.
        Values are relative to the initial state."""
        # A step of weight 0 may contain NaN, which a product with 0 would keep.
        h, e = (torch.where(w[..., None] > 0, x, 0.0) for x in (h, e))
        x = torch.cat([h, e], -1)
        rate = decay_rate(self.log_half_life, self.dt)[:, None]
        log_decay = -w[:, None] * rate * 2 * self.forget(x).sigmoid().transpose(1, 2)
        key = self._normalize_heads(self.key(h))
        return x, key, self._split_heads(self.value(x)) - key @ self.initial, log_decay

    def _scan_chunks(self, rule: ScanRule, scan_state: ScanState, *steps: Tensor) -> tuple[Tensor, ScanState]:
        """Apply a rule chunk by chunk; return the reads of every step, `B heads T V`, and the last state."""
        reads = []
        for chunk in zip(*(x.split(self.CHUNK_STEPS, 2) for x in steps), strict=True):
            read, scan_state = rule(scan_state, *chunk)
            reads.append(read)
        return torch.cat(reads, 2), scan_state

    def _project_reading(self, read: Float[Tensor, "B heads T V"]) -> Tensor:
        # Soft: a plain RMS norm would amplify the noise of an empty memory.
        soft = read * torch.rsqrt(read.square().mean(-1, keepdim=True) + 0.1)
        return self.out(soft.transpose(1, 2).flatten(-2))


class RegressionMemory(FastWeights):
    """Fast weights with a learned noise for the value of each step."""

    MIN_NOISE = 0.03
    """Lower bound of the value noise, for a key of length 1; keeps the inverted matrix well conditioned."""

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

    def _compute_evidence(self, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute key and value `B heads T K`, noise and log decay `B heads T`."""
        x, key, value, log_decay = self._compute_update(h, e, w)
        noise = F.softplus(self.noise(x)).transpose(1, 2) + self.MIN_NOISE
        # A step of weight w counts as one of w times the precision.
        root = w.sqrt()[:, None, :, None]
        return root * key, root * value, noise, log_decay

    @staticmethod
    def _sample_weights(
        mean: Float[Tensor, "B heads K V"], factor: Float[Tensor, "B heads K K"], num_samples: int
    ) -> Float[Tensor, "BN heads K V"]:
        """Sample weights from a posterior whose covariance over keys is factor · factorᵀ; values have the unit of
        the noise."""
        noise = fixed_normal(num_samples, *mean.shape[1:])
        return (mean[:, None] + factor[:, None] @ noise).flatten(0, 1)
