"""Physics memory: base class of families whose state is the physics, given (oracle) or inferred."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.pullback import PullFunction, pullback
from wm_robot.memory.film import FilmReadout
from wm_robot.memory.memory import Memory, MemoryState, Reader


class PhysicsMemory(Memory):
    """Memory that reads the physics `truth` in its state; training gives the true physics."""

    outcome_is_physics = True

    def __init__(self, *, width: int, outcome: int, dt: float, size: int = 192):
        super().__init__()
        self.num_physics = outcome
        self.embed = nn.Sequential(
            nn.Linear(outcome, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size)
        )
        self.film = FilmReadout(width, size)

    @property
    def film_readout(self) -> FilmReadout:
        return self.film

    def open_reader(self, state: MemoryState) -> Reader:
        return self.film.open_reader(self.embed(state["physics"]), state)

    def open_single_reader(self, state: MemoryState) -> Reader:
        return self.film.open_single_reader(self.embed(state["physics"]), state)

    def compute_modulation(self, state: MemoryState) -> tuple[Tensor, Tensor]:
        """Compute the modulation of a single row; see `FilmReadout.compute_modulation`."""
        return self.film.compute_single_modulation(self.embed(state["physics"]), state)

    def read_view(self, state: MemoryState) -> MemoryState:
        return {"physics": state["physics"]}

    def set_true_physics(self, state: MemoryState, physics: Float[Tensor, "B P"]) -> MemoryState:
        """Return a state of the given physics alone, without earlier estimates."""
        return {"physics": physics}

    def read_physics(self, state: MemoryState) -> Float[Tensor, "B P"]:
        return state["physics"]

    def read_with_pullback(
        self, physics: Float[Tensor, "B N P"], h: Float[Tensor, "B N D"], state: MemoryState | None = None
    ) -> tuple[Float[Tensor, "B N D"], PullFunction]:
        embedded, to_physics = pullback(self.embed, physics)
        read, to_embedded = self.film.read_with_pullback(embedded, h, state)
        return read, lambda g: to_physics(to_embedded(g))

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        return {"physics": torch.where(w[:, None] > 0, e, state["physics"])}

    def scan(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, MemoryState]:
        given = [state["physics"]]
        for t in range(h.shape[1]):
            given.append(torch.where(w[:, t, None] > 0, e[:, t], given[-1]))
        before = torch.stack(given[:-1], 1)
        return self.film(h, *self.film.compute_modulation(self.embed(before), state)), {"physics": given[-1]}
