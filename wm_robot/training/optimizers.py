"""Optimizers of the training, and the schedule of their learning rate."""

import math

import torch
from torch import nn


def make_optimizers(model: nn.Module) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """Create Muon for the matrices of hidden layers, and AdamW for the rest.

    Weight decay applies to matrices only: never to biases, norms, decays or initial states. Source of Muon: Jordan
    et al. (2024), https://kellerjordan.github.io/posts/muon.
    """
    hidden: list[nn.Parameter] = []
    heads: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.ndim != 2 or "weight" not in name:
            free.append(parameter)
        elif "head" in name:
            heads.append(parameter)
        else:
            hidden.append(parameter)
    muon = torch.optim.Muon(hidden, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": heads, "weight_decay": 0.01}, {"params": free, "weight_decay": 0.0}]
    return muon, torch.optim.AdamW(groups, betas=(0.9, 0.98))


def compute_rate_share(update: int, *, updates: int, warmup: int) -> float:
    """Compute the share of the full learning rate: a ramp, then half a cosine."""
    if update < warmup:
        return (update + 1) / warmup
    part = (update - warmup) / max(1, updates - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part))
