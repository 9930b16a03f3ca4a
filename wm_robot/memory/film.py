"""FiLM readout: a state vector modulates a hidden layer of the query."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.linear import apply_linear
from wm_robot.math.pullback import PullFunction, pull_back, pull_back_each, silu_derivative
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.memory.memory import MemoryState, Reader

RESIDUAL_KEYS = ("read.down", "read.up")
"""Keys of a residual of `modulate` in a memory's state: `B R S` and `B 2D R`."""


class FilmReadout(nn.Module):
    """FiLM readout y = W_o SiLU(W_h h ⊙ (1 + γ(s)) + β(s)).

    A product of state and query, so that a gain learned in `s` can multiply an action in `h`. γ and β are
    computed once per state and shared by all queries. Source: Perez et al. (2018), FiLM, arXiv:1709.07871.
    """

    def __init__(self, width: int, state_size: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.modulate = nn.Linear(state_size, 2 * width)
        self.out = nn.Linear(width, width)

    def compute_modulation(
        self, s: Float[Tensor, "*B S"], state: MemoryState | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute γ + 1 and β, `*B D` each.

        Args:
            state: Memory state of the same rows as `s`; may contain `RESIDUAL_KEYS`.
        """
        modulated = self.modulate(s)
        if state and RESIDUAL_KEYS[0] in state:
            modulated = modulated + apply_linear(
                apply_linear(s, state[RESIDUAL_KEYS[0]]), state[RESIDUAL_KEYS[1]]
            )
        gain, bias = modulated.chunk(2, dim=-1)
        return 1 + gain, bias

    def open_reader(self, s: Float[Tensor, "B S"], state: MemoryState | None = None) -> Reader:
        """See `Memory.open_reader`."""
        gain, bias = self.compute_modulation(s[:, None], state)
        return lambda h: self(h, gain, bias)

    def open_single_reader(self, s: Float[Tensor, "1 S"], state: MemoryState | None = None) -> Reader:
        """See `Memory.open_single_reader`."""
        gain, bias = self.compute_single_modulation(s, state)
        return lambda h: self(h, gain, bias)

    def compute_single_modulation(
        self, s: Float[Tensor, "1 S"], state: MemoryState | None = None
    ) -> tuple[Float[Tensor, "1 D"], Float[Tensor, "1 D"]]:
        """Compute γ + 1 and β of a single row."""
        own = {name: value[0] for name, value in (state or {}).items() if name in RESIDUAL_KEYS}
        return self.compute_modulation(s, own)

    def open_folded_reader(self, gain: Float[Tensor, "1 D"], bias: Float[Tensor, "1 D"]) -> Reader:
        """Return the read function of a modulation, multiplied into the weights: for many queries."""
        weight = self.query.weight * gain.mT
        constant = torch.addcmul(bias, self.query.bias, gain)[0]
        return lambda h: self.out(F.silu(F.linear(h, weight, constant)))

    def forward(self, h: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return self.out(F.silu(torch.addcmul(bias, self.query(h), gain)))

    def read_with_pullback(
        self, s: Float[Tensor, "B N S"], h: Float[Tensor, "B N D"], state: MemoryState | None = None
    ) -> tuple[Float[Tensor, "B N D"], PullFunction]:
        """Read the query `h`; return the result and the pullback of its gradients to `s`."""
        (gain, bias), asked = self.compute_modulation(s, state), self.query(h)
        u = torch.addcmul(bias, asked, gain)
        slope = silu_derivative(u)

        def pull(g: Tensor) -> Tensor:
            g = pull_back(g, self.out.weight) * slope
            g = torch.cat([g * asked, g], -1)
            through = pull_back(g, self.modulate.weight)
            if state and RESIDUAL_KEYS[0] in state:
                through = through + pull_back_each(
                    pull_back_each(g, state[RESIDUAL_KEYS[1]]), state[RESIDUAL_KEYS[0]]
                )
            return through

        return self.out(F.silu(u)), pull


def make_read_state(state: LifetimeState[Tensor], layer: int) -> MemoryState:
    """Return the state of a memory layer together with the residual of its readout."""
    residual = state.residual
    read = residual.read[layer] if residual is not None and residual.read else None
    aside = {} if read is None else dict(zip(RESIDUAL_KEYS, (read.down, read.up), strict=True))
    return state.memory[layer] | aside
