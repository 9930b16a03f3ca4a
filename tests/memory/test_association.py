"""Multi-query associative recall: pairs seen once are told apart later, by families that have room for them.

A vector of 32 numbers has not: `gru` must fail in the same training, or the task shows nothing.
Source: Arora et al. (2023), Zoology, arXiv:2312.04927.
"""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")
from torch import nn

from wm_robot.memory.delta import DeltaMemory
from wm_robot.memory.gru import GruMemory
from wm_robot.memory.hope import HopeMemory
from wm_robot.memory.kalman import KalmanMemory
from wm_robot.memory.kv import KvMemory
from wm_robot.memory.ridge import RidgeMemory

WIDTH, WORDS, HEADS, SIZE = 32, 64, 2, 16
PAIRS = HEADS * SIZE // 4
MATRICES = {"heads": HEADS, "size": SIZE}
FAMILIES = {
    "delta": (DeltaMemory, MATRICES),
    "kalman": (KalmanMemory, MATRICES),
    "ridge": (RidgeMemory, MATRICES),
    "kv": (KvMemory, MATRICES | {"num_slots": 32}),
    "hope": (HopeMemory, MATRICES | {"chunk": 4, "periods": (4, 8)}),
    "gru": (GruMemory, {"size": HEADS * SIZE}),
}


class Recaller(nn.Module):
    """Writes each pair of words once, then is asked for the second by the first."""

    def __init__(self, family: str):
        super().__init__()
        kind, shape = FAMILIES[family]
        self.keys, self.values = nn.Embedding(WORDS, WIDTH), nn.Embedding(WORDS, WIDTH)
        self.memory, self.output_head = (
            kind(width=WIDTH, outcome=WIDTH, dt=0.02, **shape),
            nn.Linear(WIDTH, WORDS),
        )

    def forward(self, keys, values, asked):
        born, ones = self.memory.initial_state(len(keys)), torch.ones(keys.shape)
        _, state = self.memory.scan(born, self.keys(keys), self.values(values), ones)
        return self.output_head(self.memory.read(state, self.keys(asked)))


def drawn(rows: int, generator):
    keys = torch.rand(rows, WORDS, generator=generator).argsort(1)[:, :PAIRS]
    values = torch.randint(WORDS, (rows, PAIRS), generator=generator)
    order = torch.rand(rows, PAIRS, generator=generator).argsort(1)
    return keys, values, keys.gather(1, order), values.gather(1, order)


def accuracy(family: str, updates: int) -> float:
    """Share of right answers about new pairs, after a short training on others."""
    torch.manual_seed(0)
    generator, model = torch.Generator().manual_seed(0), Recaller(family)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(updates):
        keys, values, asked, answer = drawn(64, generator)
        loss = nn.functional.cross_entropy(model(keys, values, asked).flatten(0, 1), answer.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        keys, values, asked, answer = drawn(512, torch.Generator().manual_seed(7))
        return float((model(keys, values, asked).argmax(-1) == answer).float().mean())


@pytest.mark.parametrize(
    ("family", "updates"), [("delta", 200), ("kalman", 200), ("ridge", 200), ("kv", 200), ("hope", 60)]
)
def test_pairs_seen_once_are_recalled(family, updates):
    assert accuracy(family, updates) >= 0.95


def test_a_vector_has_no_room_for_them():
    assert accuracy("gru", 200) < 0.5
