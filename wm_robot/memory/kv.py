"""Memory family `kv`: the state is a set of stored steps, read by attention."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wm_robot.memory.memory import MemoryState, Reader, decay_rate
from wm_robot.memory.multi_head import MultiHeadMemory

EMPTY_LOGIT = -1e9
"""Logit of an empty slot."""


class _SlotEntries(NamedTuple):
    """Content of each slot: the number of its entry, and weight and time of that entry."""

    entry: Int[Tensor, "B W"]
    weight: Float[Tensor, "B W"]
    """Number of steps that the entry represents; 0 is empty."""
    written_at: Int[Tensor, "B W"]
    """Number of updates before the entry was written."""


class KvMemory(MultiHeadMemory):
    """Key-value memory of single steps: half of the slots store the last steps, half a sample of the lifetime.

    The weight of an evicted step is added to the most similar entry. An entry decays with its age, at a rate of each
    head. The initial state has a learned null entry.

    Source: Vaswani et al. (2017), arXiv:1706.03762; the sample is that of Vitter (1985), ACM Trans. Math. Softw.
    11(1); the null entry, Xiao et al. (2023), arXiv:2309.17453.
    """

    def __init__(
        self,
        *,
        width: int,
        outcome: int,
        dt: float,
        heads: int = 6,
        size: int = 32,
        num_slots: int = 128,
        half_life: tuple[float, float] = (0.3, 3600.0),
    ):
        """Args:
        num_slots: Number of slots of both halves together.
        half_life: Time in which an entry loses half its weight, for the fastest and the slowest head, in s.
        """
        super().__init__()
        self.heads, self.size, self.dt, self.num_slots, self.num_recent = (
            heads,
            size,
            dt,
            num_slots,
            num_slots // 2,
        )
        self.query = nn.Linear(width, heads * size, bias=False)
        self.key = nn.Linear(width, heads * size, bias=False)
        self.value = nn.Linear(width + outcome, heads * size)
        self.out = nn.Linear(heads * size, width)
        self.null_key = nn.Parameter(0.1 * torch.randn(heads, 1, size))
        self.null_value = nn.Parameter(torch.zeros(heads, 1, size))
        self.log_sharpness = nn.Parameter(torch.full((heads,), math.log(8.0)))
        """Inverse temperature of the attention: keys and queries have length 1."""
        rates = torch.linspace(math.log(half_life[0]), math.log(half_life[1]), heads)
        self.log_half_life = nn.Parameter(rates)

    def initial_state(self, batch: int) -> MemoryState:
        device = self.null_key.device
        nothing = torch.zeros(batch, self.num_slots, dtype=torch.int64, device=device)
        return {
            "K": torch.zeros(batch, self.heads, self.num_slots, self.size, device=device),
            "V": torch.zeros(batch, self.heads, self.num_slots, self.size, device=device),
            "weight": torch.zeros(batch, self.num_slots, device=device),
            "written_at": nothing,
            "count": nothing[:, 0],
        }

    def open_reader(self, state: MemoryState) -> Reader:
        keys, values = state["K"], state["V"]
        bias = self._compute_bias(state["weight"], state["count"][:, None] - state["written_at"])[:, :, None]

        def read(h: Tensor) -> Tensor:
            return self._read_attention(h, keys, values, bias)

        return read

    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        """Read and update with one attention over the old slots and the new steps; slot contents are masks."""
        asked = torch.where(w[..., None] > 0, h, 0.0)
        brought = torch.cat([asked, torch.where(w[..., None] > 0, e, 0.0)], -1)
        keys = torch.cat([state["K"], self._normalize_heads(self.key(asked))], 2)
        values = torch.cat([state["V"], self._split_heads(self.value(brought))], 2)
        held, count = self._assign_slots(state, keys.detach(), w)
        # From the content of each slot at each step to the weight of each entry at each step.
        entry, weight, written_at = (torch.stack(x[:-1], 1) for x in zip(*held, strict=True))
        weights, write_times = (
            torch.zeros(*w.shape, keys.shape[2], dtype=x.dtype, device=x.device).scatter(2, entry, x)
            for x in (weight, written_at)
        )
        bias = self._compute_bias(weights, torch.stack(count[:-1], 1)[..., None] - write_times)
        last = held[-1]
        at = last.entry[:, None, :, None].expand(-1, self.heads, -1, self.size)
        after = {
            "K": keys.gather(2, at),
            "V": values.gather(2, at),
            "weight": last.weight,
            "written_at": last.written_at,
            "count": count[-1],
        }
        return self._read_attention(h, keys, values, bias), after

    def summarize(self, state: MemoryState) -> Tensor:
        """Return the weighted mean of the values: the order of slots has no meaning."""
        share = state["weight"] / state["weight"].sum(1, keepdim=True).clamp_min(1e-6)
        return (share[:, None, :, None] * state["V"]).sum(2).flatten(1)

    def _assign_slots(
        self, state: MemoryState, keys: Tensor, w: Float[Tensor, "B T"]
    ) -> tuple[list[_SlotEntries], list[Tensor]]:
        """Compute slot contents and update counts before each step and after the last one."""
        alike = keys.transpose(1, 2).flatten(2)
        alike = alike @ alike.mT
        slots, count = self.num_slots, state["count"]
        entry = torch.arange(slots, device=count.device).expand(len(count), -1)
        held, counted = [_SlotEntries(entry, state["weight"], state["written_at"])], [count]
        for t in range(w.shape[1]):
            now = self._evict_oldest(held[-1], count, alike)
            place = entry == (count % self.num_recent)[:, None]
            written = w[:, t, None] > 0
            new = _SlotEntries(
                torch.where(place, slots + t, now.entry),
                torch.where(place, w[:, t, None], now.weight),
                torch.where(place, count[:, None], now.written_at),
            )
            held.append(
                _SlotEntries(*(torch.where(written, x, y) for x, y in zip(new, held[-1], strict=True)))
            )
            count = count + (w[:, t] > 0)
            counted.append(count)
        return held, counted

    def _evict_oldest(
        self, slots: _SlotEntries, count: Int[Tensor, "B"], alike: Float[Tensor, "B N N"]
    ) -> _SlotEntries:
        """Evict the oldest recent step: move it to the sample, or add its weight to the most similar entry."""
        oldest = (count % self.num_recent)[:, None]
        leaving = _SlotEntries(*(x.gather(1, oldest) for x in slots))
        order, room = count - self.num_recent, self.num_slots - self.num_recent
        drawn = torch.where(order < room, order, _hash_int64(order) % (order + 1).clamp_min(1))
        chosen = (order >= 0) & (drawn < room)
        place = (self.num_recent + drawn.clamp(0, room - 1))[:, None]
        # The entry without a slot: the replaced one, or the one that was not chosen.
        replaced = _SlotEntries(*(x.gather(1, place) for x in slots))
        lost = _SlotEntries(
            *(torch.where(chosen[:, None], x, y) for x, y in zip(replaced, leaving, strict=True))
        )
        every = torch.arange(self.num_slots, device=count.device)
        at = (every == place) & chosen[:, None]
        now = _SlotEntries(*(torch.where(at, x, y) for x, y in zip(leaving, slots, strict=True)))
        sampled = every >= self.num_recent
        near = alike.gather(1, lost.entry[..., None].expand(-1, -1, alike.shape[2]))[:, 0].gather(
            1, now.entry
        )
        near = torch.where(sampled & (now.weight > 0), near, -torch.inf)
        nearest = every == near.argmax(1, keepdim=True)
        folded = torch.where((order >= 0)[:, None], lost.weight, 0.0)
        return now._replace(weight=now.weight + nearest * folded)

    def _compute_bias(
        self, weight: Float[Tensor, "B *T N"], age: Int[Tensor, "B *T N"]
    ) -> Float[Tensor, "B H *T N"]:
        """Compute the logit of each entry that does not depend on the query."""
        rate = decay_rate(self.log_half_life, self.dt).view(-1, *[1] * (weight.ndim - 1))
        full = torch.where(weight > 0, weight, 1.0).log()[:, None] - rate * age[:, None]
        return torch.where(weight[:, None] > 0, full, EMPTY_LOGIT)

    def _read_attention(
        self,
        h: Float[Tensor, "B T D"],
        keys: Float[Tensor, "B H N K"],
        values: Float[Tensor, "B H N K"],
        bias: Float[Tensor, "B H T1 N"],
    ) -> Float[Tensor, "B T D"]:
        query = self._normalize_heads(self.query(h)) * self.log_sharpness.exp()[:, None, None]
        null = query @ self.null_key.mT
        weight = torch.softmax(torch.cat([query @ keys.mT + bias, null], -1), -1)
        said = weight[..., :-1] @ values + weight[..., -1:] * self.null_value
        return self.out(said.transpose(1, 2).flatten(-2))


def _hash_int64(number: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """Compute a pseudo-random number ≥ 0. Source: the mixer of Steele et al. (2014), OOPSLA (SplitMix64)."""
    for factor in (-4658895280553007687, -7723592293110705685):
        number = (number ^ ((number >> 30) & 0x3FFFFFFFF)) * factor
    return (number ^ (number >> 31)) & 0x7FFFFFFFFFFFFFFF
