"""What does not learn: the arms that every memory is compared with."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.pullback import Pull, pullback
from wm_robot.memory.film import ModulatedRead
from wm_robot.memory.memory import Memory, Reader, State


class NoMemory(Memory):
    """Knowledge in weights: the state is empty, and so is every write (`nominal`, `robust`)."""

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


class ToldMemory(Memory):
    """The oracle: its state is the true physics, told afresh at every step instead of learned."""

    told_truth = True

    def __init__(self, *, width: int, outcome: int, dt: float, size: int = 192):
        super().__init__()
        self.truth = outcome
        self.embed = nn.Sequential(
            nn.Linear(outcome, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size)
        )
        self.reading = ModulatedRead(width, size)

    def birth(self, batch: int) -> State:
        """Told nothing yet: the nominal physics, which is zero by the spec's scaling."""
        return {"truth": torch.zeros(batch, self.truth, device=self.reading.out.weight.device)}

    def reader(self, state: State) -> Reader:
        return self.reading.reader(self.embed(state["truth"]), state)

    def reader_alone(self, state: State) -> Reader:
        return self.reading.reader_alone(self.embed(state["truth"]), state)

    def readable(self, state: State) -> State:
        return {"truth": state["truth"]}

    def read_with_slope(
        self, truth: Float[Tensor, "B N P"], h: Float[Tensor, "B N D"], state: State | None = None
    ) -> tuple[Float[Tensor, "B N D"], Pull]:
        """What each `truth` says of a query of its own, and how gradients of that come back to it."""
        embedded, to_truth = pullback(self.embed, truth)
        read, to_embedded = self.reading.with_slope(embedded, h, state)
        return read, lambda g: to_truth(to_embedded(g))

    def write(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> State:
        return {"truth": torch.where(w[:, None] > 0, e, state["truth"])}

    def scan(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, State]:
        told = [state["truth"]]
        for t in range(h.shape[1]):
            told.append(torch.where(w[:, t, None] > 0, e[:, t], told[-1]))
        before = torch.stack(told[:-1], 1)
        return self.reading(h, *self.reading.modulation(self.embed(before), state)), {"truth": told[-1]}
