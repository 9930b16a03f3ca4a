"""Memory family `gru`: the state is one recurrent vector."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.memory.film import FilmReadout
from wm_robot.memory.memory import Memory, MemoryState, Reader


class GruMemory(Memory):
    """Hidden state of a gated recurrent unit. Source: Cho et al. (2014), arXiv:1406.1078."""

    def __init__(self, *, width: int, outcome: int, dt: float, size: int = 192):
        super().__init__()
        self.cell = nn.GRU(width + outcome, size, batch_first=True)
        self.film = FilmReadout(width, size)
        self.initial = nn.Parameter(torch.zeros(size))

    @property
    def film_readout(self) -> FilmReadout:
        return self.film

    def initial_state(self, batch: int) -> MemoryState:
        return {"s": self.initial.expand(batch, -1)}

    def open_reader(self, state: MemoryState) -> Reader:
        return self.film.open_reader(state["s"], state)

    def open_single_reader(self, state: MemoryState) -> Reader:
        return self.film.open_single_reader(state["s"], state)

    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        after = self._run_cell(state["s"], torch.cat([h, e], -1), w)
        before = torch.cat([state["s"][:, None], after[:, :-1]], 1)
        return self.film(h, *self.film.compute_modulation(before, state)), {"s": after[:, -1]}

    def _run_cell(self, s: Tensor, x: Tensor, w: Tensor) -> Tensor:
        # A single step skips this test, so that it can be traced.
        if x.shape[1] > 1 and bool((w == 1).all()):
            return self.cell(x, s[None].contiguous())[0]
        after = []
        for t in range(x.shape[1]):
            step = self.cell(x[:, t : t + 1], s[None].contiguous())[0][:, 0]
            # `where` at the ends keeps w = 0 exact to the bit, which w·step + (1 - w)·s would not be for NaN.
            s = torch.where(w[:, t, None] > 0, s + w[:, t, None] * (step - s), s)
            s = torch.where(w[:, t, None] == 1, step, s)
            after.append(s)
        return torch.stack(after, 1)
