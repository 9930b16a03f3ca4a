"""Memory baselines: `NullMemory` and `OracleMemory`, the variants that every memory is compared with."""

import torch
from torch import Tensor

from wm_robot.memory.film import ModulatedRead
from wm_robot.memory.memory import Memory, Reader, State
from wm_robot.memory.physics import PhysicsMemory


class NoMemory(Memory):
    """Memory without state: an update changes nothing, and all knowledge is in the weights (`nominal`, `robust`)."""

    def __init__(self, *, width: int, outcome: int, dt: float):
        super().__init__()
        self.reading = ModulatedRead(width, 1)

    def birth(self, batch: int) -> State:
        return {"s": torch.zeros(batch, 1, device=self.reading.out.weight.device)}

    def reader(self, state: State) -> Reader:
        return self.reading.reader(state["s"])

    def reader_alone(self, state: State) -> Reader:
        return self.reading.reader_alone(state["s"])

    def write(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> State:
        return state

    def scan(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, State]:
        return self.read(state, h), state


class ToldMemory(PhysicsMemory):
    """Oracle memory: its state is the true physics, given at every step instead of learned."""

    needs_truth = True

    def birth(self, batch: int) -> State:
        """Return the nominal physics, which are zero by the spec's scaling."""
        return {"truth": torch.zeros(batch, self.truth, device=self.reading.out.weight.device)}
