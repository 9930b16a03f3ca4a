"""Multi-head memory: base class of memories whose heads have separate keys."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.memory import Memory


class MultiHeadMemory(Memory):
    """Memory whose heads have separate keys and values."""

    heads: int
    size: int
    """Size of a key, and of a value."""

    def _split_heads(self, x: Float[Tensor, "B T X"]) -> Float[Tensor, "B heads T K"]:
        return x.unflatten(-1, (self.heads, self.size)).transpose(1, 2)

    def _normalize_heads(self, x: Float[Tensor, "B T X"]) -> Float[Tensor, "B heads T K"]:
        return F.normalize(self._split_heads(x), dim=-1, eps=1e-6)
