"""Physics memory: base class of families whose state is the physics, given (oracle) or inferred."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.pullback import Pull, pullback
from wm_robot.memory.film import ModulatedRead
from wm_robot.memory.memory import Memory, Reader, State


class PhysicsMemory(Memory):
    """Memory that reads the physics `truth` in its state; training gives the true physics."""

    outcome_is_physics = True

    def __init__(self, *, width: int, outcome: int, dt: float, size: int = 192):
        super().__init__()
        self.truth = outcome
        self.embed = nn.Sequential(
            nn.Linear(outcome, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size)
        )
        self.reading = ModulatedRead(width, size)

    @property
    def modulated_reading(self) -> ModulatedRead:
        return self.reading

    def reader(self, state: State) -> Reader:
        return self.reading.reader(self.embed(state["truth"]), state)

    def reader_alone(self, state: State) -> Reader:
        return self.reading.reader_alone(self.embed(state["truth"]), state)

    def readable(self, state: State) -> State:
        return {"truth": state["truth"]}

    def with_physics(self, state: State, physics: Float[Tensor, "B P"]) -> State:
        """Return a state of the given physics alone, without earlier estimates."""
        return {"truth": physics}

    def physics(self, state: State) -> Float[Tensor, "B P"]:
        return state["truth"]

    def read_with_slope(
        self, physics: Float[Tensor, "B N P"], h: Float[Tensor, "B N D"], state: State | None = None
    ) -> tuple[Float[Tensor, "B N D"], Pull]:
        embedded, to_physics = pullback(self.embed, physics)
        read, to_embedded = self.reading.with_slope(embedded, h, state)
        return read, lambda g: to_physics(to_embedded(g))

    def write(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> State:
        return {"truth": torch.where(w[:, None] > 0, e, state["truth"])}

    def scan(self, state: State, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, State]:
        given = [state["truth"]]
        for t in range(h.shape[1]):
            given.append(torch.where(w[:, t, None] > 0, e[:, t], given[-1]))
        before = torch.stack(given[:-1], 1)
        return self.reading(h, *self.reading.modulation(self.embed(before), state)), {"truth": given[-1]}
