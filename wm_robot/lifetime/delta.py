"""Family `delta`: the life is a set of fast-weight matrices under the gated delta rule."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.lifetime.memory import Memory, Reader, State
from wm_robot.ops.delta_rule import delta_scan, delta_write


class DeltaMemory(Memory):
    """Key-value matrices that decay towards their learned birth state, each head with its own half-life.

    Source: Yang et al. (2024), arXiv:2412.06464. Differs: decay in physical time and towards a learned
    initial matrix; the values carry the outcome, the keys only what was asked.
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
        super().__init__()
        self.heads, self.size, self.dt = heads, size, dt
        self.query = nn.Linear(width, heads * size, bias=False)
        self.key = nn.Linear(width, heads * size, bias=False)
        self.value = nn.Linear(width + outcome, heads * size)
        self.strength = nn.Linear(width + outcome, heads)
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

    def write(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> State:
        key, value, strength, log_decay = self._writes(h[:, None], e[:, None], w[:, None])
        value = value - key @ self.initial
        offset = delta_write(
            state["S"] - self.initial, key[..., 0, :], value[..., 0, :], strength[..., 0], log_decay[..., 0]
        )
        new = self.initial + offset
        return {"S": torch.where(w[:, None, None, None] > 0, new, state["S"])}

    def scan(
        self, state: State, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T D"], State]:
        query = self._unit(self.query(h))
        key, value, strength, log_decay = self._writes(h, e, w)
        value = value - key @ self.initial
        offset, reads = state["S"] - self.initial, []
        for start in range(0, h.shape[1], self.CHUNK):
            chunk = slice(start, start + self.CHUNK)
            read, offset = delta_scan(
                offset,
                query[..., chunk, :],
                key[..., chunk, :],
                value[..., chunk, :],
                strength[..., chunk],
                log_decay[..., chunk],
            )
            reads.append(read)
        written = (w > 0).any(1)[:, None, None, None]
        after = torch.where(written, self.initial + offset, state["S"])
        return self._say(torch.cat(reads, -2) + query @ self.initial), {"S": after}

    def _writes(self, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Key and value `B heads T K`, strength and log decay `B heads T`."""
        # A step that is not written may hold anything, NaN too, which no weight of 0 would silence.
        h, e = (torch.where(w[..., None] > 0, x, 0.0) for x in (h, e))
        x = torch.cat([h, e], -1)
        w = w[:, None]
        strength = w * self.strength(x).sigmoid().transpose(1, 2)
        rate = math.log(2) * self.dt * torch.exp(-self.log_half_life)[:, None]
        log_decay = -w * rate * 2 * self.forget(x).sigmoid().transpose(1, 2)
        return self._unit(self.key(h)), self._split(self.value(x)), strength, log_decay

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.size)).transpose(1, 2)

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(self._split(x), dim=-1, eps=1e-6)

    def _say(self, read: Float[Tensor, "B heads T V"]) -> Tensor:
        # Soft: a plain RMS norm would blow up the noise of an empty memory.
        soft = read * torch.rsqrt(read.square().mean(-1, keepdim=True) + 0.1)
        return self.out(soft.transpose(1, 2).flatten(-2))
