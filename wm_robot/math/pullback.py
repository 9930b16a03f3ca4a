"""Pullbacks of small layers: gradients of many outputs at once.

This is reverse mode, written out. A robot needs the derivatives of a dozen channels at every step. Autograd would
compute each layer's gradient one channel at a time, and cannot be exported to ONNX at all.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

PullFunction = Callable[[Tensor], Tensor]
"""∂L/∂y → ∂L/∂x; any axes may stand before those of y."""


def pullback(layer: nn.Module, x: Float[Tensor, "*B I"]) -> tuple[Float[Tensor, "*B O"], PullFunction]:
    """Return the output of a layer, and the function that pulls gradients back through it.

    Raises:
        TypeError: If the layer is no `Sequential` of `Linear`, `LayerNorm` and `SiLU`.
    """
    if isinstance(layer, nn.Sequential):
        pulls = []
        for part in layer:
            x, pull = pullback(part, x)
            pulls.append(pull)
        return x, _compose(pulls)
    if isinstance(layer, nn.Linear):
        weight = layer.weight
        return layer(x), lambda g: pull_back(g, weight)
    if isinstance(layer, nn.SiLU):
        slope = silu_derivative(x)
        return layer(x), lambda g: g * slope
    if isinstance(layer, nn.LayerNorm):
        return layer(x), _pull_through_norm(layer, x)
    raise TypeError(f"no gradient is written out for {type(layer).__name__}")


def pull_back(g: Float[Tensor, "*B O"], weight: Float[Tensor, "O I"]) -> Float[Tensor, "*B I"]:
    """Pull a gradient back through a weight: one product for all rows, for any number of axes."""
    return (g.flatten(0, -2) @ weight).unflatten(0, g.shape[:-1])


def pull_back_each(g: Float[Tensor, "C B N O"], weight: Float[Tensor, "B O I"]) -> Float[Tensor, "C B N I"]:
    """Pull a gradient back through a weight of each agent: one product per agent."""
    rows = g.movedim(0, 1)
    return (rows.flatten(1, 2) @ weight).unflatten(1, rows.shape[1:3]).movedim(1, 0)


def silu_derivative(x: Tensor) -> Tensor:
    """Return the derivative of x σ(x)."""
    gate = x.sigmoid()
    return gate * (1 + x * (1 - gate))


def _compose(pulls: list[PullFunction]) -> PullFunction:
    def pull(g: Tensor) -> Tensor:
        for each in reversed(pulls):
            g = each(g)
        return g

    return pull


def _pull_through_norm(layer: nn.LayerNorm, x: Tensor) -> PullFunction:
    variance, mean = torch.var_mean(x, -1, keepdim=True, correction=0)
    scale = torch.rsqrt(variance + layer.eps)
    unit = (x - mean) * scale

    def pull(g: Tensor) -> Tensor:
        g = g * layer.weight
        return scale * (g - g.mean(-1, keepdim=True) - unit * (g * unit).mean(-1, keepdim=True))

    return pull
