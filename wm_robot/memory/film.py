"""FiLM readout: a state vector modulates a hidden layer of the query."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.linear import linear
from wm_robot.math.pullback import Pull, pulled, pulled_each, silu_slope
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.memory.memory import Reader, State

ASIDE = ("read.down", "read.up")
"""Keys of a residual of `modulate` in a memory's state: `B R S` and `B 2D R`."""


class ModulatedRead(nn.Module):
    """FiLM readout y = W_o SiLU(W_h h ⊙ (1 + γ(s)) + β(s)).

    A product of state and query, so that a gain learned in `s` can multiply an action in `h`. γ and β are
    computed once per state and shared by all queries. Source: Perez et al. (2018), FiLM, arXiv:1709.07871.
    """

    def __init__(self, width: int, state: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.modulate = nn.Linear(state, 2 * width)
        self.out = nn.Linear(width, width)

    def modulation(self, s: Float[Tensor, "*B S"], state: State | None = None) -> tuple[Tensor, Tensor]:
        """Compute γ + 1 and β, `*B D` each.

        Args:
            state: Memory state of the same rows as `s`; may contain `RESIDUAL_KEYS`.
        """
        modulated = self.modulate(s)
        if state and ASIDE[0] in state:
            modulated = modulated + linear(linear(s, state[ASIDE[0]]), state[ASIDE[1]])
        gain, bias = modulated.chunk(2, dim=-1)
        return 1 + gain, bias

    def reader(self, s: Float[Tensor, "B S"], state: State | None = None) -> Reader:
        """See `Memory.open_reader`."""
        gain, bias = self.modulation(s[:, None], state)
        return lambda h: self(h, gain, bias)

    def reader_alone(self, s: Float[Tensor, "1 S"], state: State | None = None) -> Reader:
        """See `Memory.open_single_reader`."""
        own = {name: value[0] for name, value in (state or {}).items() if name in ASIDE}
        gain, bias = self.modulation(s, own)
        return lambda h: self(h, gain, bias)

    def forward(self, h: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return self.out(F.silu(torch.addcmul(bias, self.query(h), gain)))

    def with_slope(
        self, s: Float[Tensor, "B N S"], h: Float[Tensor, "B N D"], state: State | None = None
    ) -> tuple[Float[Tensor, "B N D"], Pull]:
        """Read the query `h`; return the result and the pullback of its gradients to `s`."""
        (gain, bias), asked = self.modulation(s, state), self.query(h)
        u = torch.addcmul(bias, asked, gain)
        slope = silu_slope(u)

        def pull(g: Tensor) -> Tensor:
            g = pulled(g, self.out.weight) * slope
            g = torch.cat([g * asked, g], -1)
            through = pulled(g, self.modulate.weight)
            if state and ASIDE[0] in state:
                through = through + pulled_each(pulled_each(g, state[ASIDE[1]]), state[ASIDE[0]])
            return through

        return self.out(F.silu(u)), pull


def layer_state(state: LifetimeState[Tensor], layer: int) -> State:
    """Return the state of a memory layer together with the residual of its readout."""
    residual = state.residual
    read = residual.read[layer] if residual is not None and residual.read else None
    aside = {} if read is None else dict(zip(ASIDE, (read.down, read.up), strict=True))
    return state.memory[layer] | aside
