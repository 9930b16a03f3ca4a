"""Memory family `hope`: self-modifying fast weights in front of a continuum of slower levels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wm_robot.errors import ConfigError
from wm_robot.math.delta_rule import delta_scan
from wm_robot.memory.continuum import Continuum
from wm_robot.memory.fast_weights import FastWeights
from wm_robot.memory.memory import MemoryState, Reader, decay_rate, expand_like


class HopeMemory(FastWeights):
    """Delta rule whose keys, values and gates are corrected by a second memory `M`, in front of a `Continuum`.

    `M` learns from its own targets. The front matrices store half a second at most; the levels store what is constant
    for longer. The front values depend on the reading of the levels. `M` and the levels are constant within a chunk,
    so that a chunk is computed in parallel. The change of `M` is the mean over its chunk: similar keys would make a
    sum diverge.

    Source: Behrouz et al. (2025), Nested Learning, arXiv:2512.24695, equations 70-97. Differs: one delta term instead
    of two that count the error twice, targets bounded, decay in physical time and towards the initial state, momentum
    from chunk to chunk, and the levels parallel to the matrices instead of after them; see `Continuum`.
    """

    exportable = False

    summary_queries: Tensor
    """Fixed queries of `summarize`."""

    def __init__(
        self,
        *,
        width: int,
        outcome: int,
        dt: float,
        chunk: int = 16,
        periods: Sequence[int] = (16, 64, 256, 1024),
        num_features: int = 64,
        num_values: int = 48,
        num_queries: int = 16,
        half_life: tuple[float, float] = (0.1, 0.5),
        **shape: Any,
    ):
        """Args:
        chunk: Steps for which `M` is constant.
        periods: Periods of the levels, in steps, the fastest first; each a multiple of the one before, the first of
            `chunk`.
        num_features: Number of regression features of the levels.
        num_values: Size of the regression target of the levels.
        num_queries: Number of fixed queries of `summarize`.
        half_life: Half-life of the fastest and the slowest front matrix, in s; training makes none slower.

        Raises:
            ConfigError: If a period is not a multiple of the one before it, or of the chunk.
        """
        super().__init__(width=width, outcome=outcome, dt=dt, half_life=half_life, **shape)
        if any(slow % fast for fast, slow in zip((chunk, *periods), periods, strict=False)):
            raise ConfigError(
                f"memory.periods are {tuple(periods)}; each must be a multiple of the one before, the first of "
                f"chunk, {chunk}"
            )
        self.chunk, heads = chunk, self.heads
        self._max_log_half_life = math.log(half_life[1])
        made = 2 * self.size + 2
        """Size of the corrections that `M` computes: of key, value, strength and decay."""
        self.strength = nn.Linear(width + outcome, heads)
        self.target = nn.Linear(width + outcome, heads * made)
        self.target_mixing = nn.Parameter(torch.randn(heads, made, made) / math.sqrt(made))
        self.initial_corrections = nn.Parameter(0.02 * torch.randn(heads, self.size, made))
        self.correction_gain = nn.Parameter(torch.full((heads, 3), 0.3))
        """Weight of the corrections of key, value and gates."""
        self.rate = nn.Parameter(torch.zeros(heads))
        self.momentum = nn.Parameter(torch.zeros(heads))
        self.log_half_life_corrections = nn.Parameter(torch.full((heads,), math.log(60.0)))
        """Half-life of `M`, log of s."""
        self.continuum = Continuum(
            width=width,
            outcome=outcome,
            periods=periods,
            num_features=num_features,
            num_values=num_values,
            dt=dt,
        )
        self.levels_to_value = nn.Linear(width, heads * self.size, bias=False)
        """Projection of the reading of the levels, added to the front values."""
        self.register_buffer("summary_queries", torch.randn(num_queries, width))

    def initial_state(self, batch: int) -> MemoryState:
        made = self.initial_corrections.expand(batch, -1, -1, -1)
        nothing = torch.zeros_like(made)
        state = {"M": made, "pending": nothing, "velocity": nothing.clone()}
        state["steps"] = torch.zeros(batch, dtype=torch.int64, device=made.device)
        return super().initial_state(batch) | state | self.continuum.initial_state(batch)

    def open_reader(self, state: MemoryState) -> Reader:
        in_front, behind = super().open_reader(state), self.continuum.open_reader(state)
        return lambda h: in_front(h) + behind(h)

    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        # A chunk ends where the update count of any row is a multiple of it; rows that start together end together.
        written = w > 0
        steps = state["steps"][:, None] + written.cumsum(1)
        ends = ((steps % self.chunk == 0) & written).any(0).nonzero()[:, 0] + 1
        cuts = sorted({0, *ends.tolist(), w.shape[1]})
        said = []
        for start, end in zip(cuts, cuts[1:], strict=False):
            read, state = self._scan_chunk(state, *(x[:, start:end] for x in (h, e, w)))
            said.append(read)
        return torch.cat(said, 1), state

    def summarize(self, state: MemoryState) -> Float[Tensor, "B X"]:
        """Return the readings of a few fixed queries: the matrices have too many elements."""
        asked = self.summary_queries.expand(len(state["steps"]), -1, -1)
        return self.read(state, asked).flatten(1)

    def _scan_chunk(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, MemoryState]:
        """Read and update with steps in which no row's chunk ends before the last step."""
        query, known = self._normalize_heads(self.query(h)), self.continuum.open_reader(state)(h)
        h, e = (torch.where(w[..., None] > 0, x, 0.0) for x in (h, e))
        x = torch.cat([h, e], -1)
        basis = self._normalize_heads(self.key(h))
        made = basis @ state["M"]
        key, value, strength, log_decay = self._apply_corrections(x, basis, made, w)
        value = value + self._split_heads(self.levels_to_value(torch.where(w[..., None] > 0, known, 0.0)))
        reads, offset = delta_scan(state["S"] - self.initial, query, key, value, strength, log_decay)
        y = self._project_reading(reads + query @ self.initial) + known

        written = (w > 0).any(1)
        steps = state["steps"] + (w > 0).sum(1)
        after = {
            "S": torch.where(expand_like(written, offset), self.initial + offset, state["S"]),
            "steps": steps,
        }
        target = self.target(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        # Bounded: a target that grows with the stored value diverges.
        wanted = torch.tanh(target + (target + made) @ self.target_mixing)
        pending = state["pending"] + (w[:, None, :, None] * basis).mT @ (wanted - made)
        after |= self._update_corrections(state, pending, written & (steps % self.chunk == 0))
        return y, after | self.continuum.update(state, h, x, w, steps)

    def _apply_corrections(
        self, x: Tensor, basis: Float[Tensor, "B H T K"], made: Float[Tensor, "B H T P"], w: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute corrected key and value `B H T K`, strength and log decay `B H T`."""
        gain = self.correction_gain[:, None, :, None]
        key, value, gates = made.split([self.size, self.size, 2], -1)
        key = F.normalize(basis + gain[:, :, 0] * key, dim=-1, eps=1e-6)
        value = self._split_heads(self.value(x)) + gain[:, :, 1] * value - key @ self.initial
        strength, forget = (
            gate(x).transpose(1, 2) + gain[:, 0, 2] * gates[..., i]
            for i, gate in enumerate((self.strength, self.forget))
        )
        rate = decay_rate(self.log_half_life.clamp_max(self._max_log_half_life), self.dt)[:, None]
        return key, value, w[:, None] * strength.sigmoid(), -w[:, None] * rate * 2 * forget.sigmoid()

    def _update_corrections(self, state: MemoryState, pending: Tensor, due: Bool[Tensor, "B"]) -> MemoryState:
        """Update `M` at the end of a chunk: decay, then add the mean of the pending changes."""
        each = (-1, 1, 1)
        step = 2 * self.rate.sigmoid().view(each) * pending / self.chunk
        velocity = self.momentum.sigmoid().view(each) * state["velocity"] + step
        left = torch.exp(-self.chunk * decay_rate(self.log_half_life_corrections, self.dt)).view(each)
        made = self.initial_corrections + left * (state["M"] - self.initial_corrections) + velocity
        now = expand_like(due, pending)
        return {
            "M": torch.where(now, made, state["M"]),
            "velocity": torch.where(now, velocity, state["velocity"]),
            "pending": torch.where(now, 0.0, pending),
        }
