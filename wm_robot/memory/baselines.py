"""Memory baselines: `NullMemory` and `OracleMemory`, the variants that every memory is compared with."""

import torch
from torch import Tensor

from wm_robot.memory.film import FilmReadout
from wm_robot.memory.memory import Memory, MemoryState, Reader
from wm_robot.memory.physics import PhysicsMemory


class NullMemory(Memory):
    """Memory without state: an update changes nothing, and all knowledge is in the weights (`nominal`, `robust`)."""

    def __init__(self, *, width: int, outcome: int, dt: float):
        super().__init__()
        self.film = FilmReadout(width, 1)

    def initial_state(self, batch: int) -> MemoryState:
        return {"s": torch.zeros(batch, 1, device=self.film.out.weight.device)}

    def open_reader(self, state: MemoryState) -> Reader:
        return self.film.open_reader(state["s"])

    def open_single_reader(self, state: MemoryState) -> Reader:
        return self.film.open_single_reader(state["s"])

    def compute_modulation(self, state: MemoryState) -> tuple[Tensor, Tensor]:
        """Compute the modulation of a single row; see `FilmReadout.compute_modulation`."""
        return self.film.compute_single_modulation(state["s"])

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        return state

    def scan(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, MemoryState]:
        return self.read(state, h), state


class OracleMemory(PhysicsMemory):
    """Oracle memory: its state is the true physics, given at every step instead of learned."""

    uses_privileged_state = True

    def initial_state(self, batch: int) -> MemoryState:
        """Return the nominal physics, which are zero by the spec's scaling."""
        return {"physics": torch.zeros(batch, self.num_physics, device=self.film.out.weight.device)}
