"""Memory family `kv`: the state is a set of stored steps, read by attention."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wm_robot.memory.memory import Reader, State, forgetting
from wm_robot.memory.multi_head import Headed

NEVER = -1e9
"""Logit of an empty slot."""


class _Slots(NamedTuple):
    """Content of each slot: the number of its entry, and weight and time of that entry."""

    entry: Int[Tensor, "B W"]
    worth: Float[Tensor, "B W"]
    """Number of steps that the entry represents; 0 is empty."""
    born: Int[Tensor, "B W"]
    """Number of updates before the entry was written."""


class KvMemory(Headed):
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
        slots: int = 128,
        half_life: tuple[float, float] = (0.3, 3600.0),
    ):
        """Args:
        num_slots: Number of slots of both halves together.
        half_life: Time in which an entry loses half its weight, for the fastest and the slowest head, in s.
        """
        super().__init__()
        self.heads, self.size, self.dt, self.slots, self.recent = heads, size, dt, slots, slots // 2
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

    def birth(self, batch: int) -> State:
        device = self.null_key.device
        nothing = torch.zeros(batch, self.slots, dtype=torch.int64, device=device)
        return {
            "K": torch.zeros(batch, self.heads, self.slots, self.size, device=device),
            "V": torch.zeros(batch, self.heads, self.slots, self.size, device=device),
            "worth": torch.zeros(batch, self.slots, device=device),
            "born": nothing,
            "seen": nothing[:, 0],
        }

    def reader(self, state: State) -> Reader:
        keys, values = state["K"], state["V"]
        bias = self._bias(state["worth"], state["seen"][:, None] - state["born"])[:, :, None]

        def read(h: Tensor) -> Tensor:
            return self._attend(h, keys, values, bias)

        return read

    def scan(
        self, state: State, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T D"], State]:
        """Read and update with one attention over the old slots and the new steps; slot contents are masks."""
        asked = torch.where(w[..., None] > 0, h, 0.0)
        brought = torch.cat([asked, torch.where(w[..., None] > 0, e, 0.0)], -1)
        keys = torch.cat([state["K"], self._unit(self.key(asked))], 2)
        values = torch.cat([state["V"], self._split(self.value(brought))], 2)
        held, seen = self._kept(state, keys.detach(), w)
        # From the content of each slot at each step to the weight of each entry at each step.
        entry, worth, born = (torch.stack(x[:-1], 1) for x in zip(*held, strict=True))
        worths, births = (
            torch.zeros(*w.shape, keys.shape[2], dtype=x.dtype, device=x.device).scatter(2, entry, x)
            for x in (worth, born)
        )
        bias = self._bias(worths, torch.stack(seen[:-1], 1)[..., None] - births)
        last = held[-1]
        at = last.entry[:, None, :, None].expand(-1, self.heads, -1, self.size)
        after = {
            "K": keys.gather(2, at),
            "V": values.gather(2, at),
            "worth": last.worth,
            "born": last.born,
            "seen": seen[-1],
        }
        return self._attend(h, keys, values, bias), after

    def summary(self, state: State) -> Tensor:
        """Return the weighted mean of the values: the order of slots has no meaning."""
        share = state["worth"] / state["worth"].sum(1, keepdim=True).clamp_min(1e-6)
        return (share[:, None, :, None] * state["V"]).sum(2).flatten(1)

    def _kept(self, state: State, keys: Tensor, w: Float[Tensor, "B T"]) -> tuple[list[_Slots], list[Tensor]]:
        """Compute slot contents and update counts before each step and after the last one."""
        alike = keys.transpose(1, 2).flatten(2)
        alike = alike @ alike.mT
        slots, seen = self.slots, state["seen"]
        entry = torch.arange(slots, device=seen.device).expand(len(seen), -1)
        held, counted = [_Slots(entry, state["worth"], state["born"])], [seen]
        for t in range(w.shape[1]):
            now = self._evicted(held[-1], seen, alike)
            place = entry == (seen % self.recent)[:, None]
            written = w[:, t, None] > 0
            new = _Slots(
                torch.where(place, slots + t, now.entry),
                torch.where(place, w[:, t, None], now.worth),
                torch.where(place, seen[:, None], now.born),
            )
            held.append(_Slots(*(torch.where(written, x, y) for x, y in zip(new, held[-1], strict=True))))
            seen = seen + (w[:, t] > 0)
            counted.append(seen)
        return held, counted

    def _evicted(self, held: _Slots, seen: Int[Tensor, "B"], alike: Float[Tensor, "B N N"]) -> _Slots:
        """Evict the oldest recent step: move it to the sample, or add its weight to the most similar entry."""
        oldest = (seen % self.recent)[:, None]
        leaving = _Slots(*(x.gather(1, oldest) for x in held))
        order, room = seen - self.recent, self.slots - self.recent
        drawn = torch.where(order < room, order, _hash(order) % (order + 1).clamp_min(1))
        chosen = (order >= 0) & (drawn < room)
        place = (self.recent + drawn.clamp(0, room - 1))[:, None]
        # The entry without a slot: the replaced one, or the one that was not chosen.
        replaced = _Slots(*(x.gather(1, place) for x in held))
        lost = _Slots(*(torch.where(chosen[:, None], x, y) for x, y in zip(replaced, leaving, strict=True)))
        every = torch.arange(self.slots, device=seen.device)
        at = (every == place) & chosen[:, None]
        now = _Slots(*(torch.where(at, x, y) for x, y in zip(leaving, held, strict=True)))
        sampled = every >= self.recent
        near = alike.gather(1, lost.entry[..., None].expand(-1, -1, alike.shape[2]))[:, 0].gather(
            1, now.entry
        )
        near = torch.where(sampled & (now.worth > 0), near, -torch.inf)
        nearest = every == near.argmax(1, keepdim=True)
        folded = torch.where((order >= 0)[:, None], lost.worth, 0.0)
        return now._replace(worth=now.worth + nearest * folded)

    def _bias(self, worth: Float[Tensor, "B *T N"], age: Int[Tensor, "B *T N"]) -> Float[Tensor, "B H *T N"]:
        """Compute the logit of each entry that does not depend on the query."""
        rate = forgetting(self.log_half_life, self.dt).view(-1, *[1] * (worth.ndim - 1))
        full = torch.where(worth > 0, worth, 1.0).log()[:, None] - rate * age[:, None]
        return torch.where(worth[:, None] > 0, full, NEVER)

    def _attend(
        self,
        h: Float[Tensor, "B T D"],
        keys: Float[Tensor, "B H N K"],
        values: Float[Tensor, "B H N K"],
        bias: Float[Tensor, "B H T1 N"],
    ) -> Float[Tensor, "B T D"]:
        query = self._unit(self.query(h)) * self.log_sharpness.exp()[:, None, None]
        null = query @ self.null_key.mT
        weight = torch.softmax(torch.cat([query @ keys.mT + bias, null], -1), -1)
        said = weight[..., :-1] @ values + weight[..., -1:] * self.null_value
        return self.out(said.transpose(1, 2).flatten(-2))


def _hash(number: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """Compute a pseudo-random number ≥ 0. Source: the mixer of Steele et al. (2014), OOPSLA (SplitMix64)."""
    for factor in (-4658895280553007687, -7723592293110705685):
        number = (number ^ ((number >> 30) & 0x3FFFFFFFF)) * factor
    return (number ^ (number >> 31)) & 0x7FFFFFFFFFFFFFFF
