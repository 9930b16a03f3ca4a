"""Continuum memory: levels with increasing time constants, each the prior of the next faster one."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.cholesky import cholesky_or_nan
from wm_robot.memory.memory import MemoryState, decay_rate, expand_like


class Continuum(nn.Module):
    """Regression of one target on one set of features, over increasing time scales.

    Each level sums its evidence and decays it at its own rate. Once per period a level is solved for its correction
    of the slower levels. The prior of that correction weighs as much as a few steps of evidence. Slow levels store
    what is constant, fast levels store how the present differs from it.

    Source: the continuum memory system of Behrouz et al. (2025), arXiv:2512.24695, equations 70-71. Differs: a level
    is solved in closed form instead of by gradient steps, of which 4096 control steps allow the slowest four; levels
    are summed, not composed, so that the features of one do not move with what another learns; and one target serves
    all, since no gradient reaches a write that comes once in a thousand steps.
    """

    def __init__(
        self,
        *,
        width: int,
        outcome: int,
        periods: Sequence[int],
        num_features: int,
        num_values: int,
        dt: float,
    ):
        super().__init__()
        self.feature = nn.Linear(width, num_features)
        self.target = nn.Linear(width + outcome, num_values)
        self.out = nn.Linear(num_values, width)
        self.initial = nn.Parameter(torch.randn(num_features, num_values) / math.sqrt(num_features))
        self.levels = nn.ModuleList(_ContinuumLevel(period=period, dt=dt) for period in periods)

    def initial_state(self, batch: int) -> MemoryState:
        """Return zero corrections, zero evidence, and zero new evidence since the last solve."""
        features, values = self.initial.shape
        state = {}
        for i in range(len(self.levels)):
            for name, columns in (("level", values), ("gram", features), ("moment", values)):
                state[f"{name}{i}"] = torch.zeros(batch, features, columns, device=self.initial.device)
            for name in ("gram", "moment"):
                state[f"new_{name}{i}"] = torch.zeros_like(state[f"{name}{i}"])
        return state

    def open_reader(self, state: MemoryState) -> Callable[[Tensor], Tensor]:
        """Return the function that reads the sum of all levels for a query, `B N D`."""
        weights = self.initial + sum(state[f"level{i}"] for i in range(len(self.levels)))
        return lambda h: self.out(self.compute_features(h) @ weights)

    def compute_features(self, h: Float[Tensor, "B N D"]) -> Float[Tensor, "B N F"]:
        return F.normalize(self.feature(h), dim=-1, eps=1e-6)

    def update(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        x: Float[Tensor, "B T X"],
        w: Float[Tensor, "B T"],
        num_updates: Tensor,
    ) -> MemoryState:
        """Update the levels with steps in which no period ends before the last step.

        Args:
            x: Query and outcome.
            num_updates: Number of updates of each row after these steps, `B`.
        """
        features = torch.where(w[..., None] > 0, self.compute_features(h), 0.0)
        seen = (w[..., None] * features).mT
        news = {"gram": seen @ features, "moment": seen @ self.target(x)}
        written = (w > 0).any(1)
        after: MemoryState = {}
        for i, level in enumerate(self._level_modules):
            due = written & (num_updates % level.period == 0)
            for name, new in news.items():
                fresh = state[f"new_{name}{i}"] + new
                held = state[f"{name}{i}"]
                after[f"{name}{i}"] = torch.where(
                    expand_like(due, held), level.compute_decay_factor() * held + fresh, held
                )
                after[f"new_{name}{i}"] = torch.where(expand_like(due, fresh), 0.0, fresh)
        due = written & (num_updates % self._level_modules[0].period == 0)
        if not due.any():
            return after | {f"level{i}": state[f"level{i}"] for i in range(len(self.levels))}
        for i, learned in self._solve_levels(after):
            held = state[f"level{i}"]
            after[f"level{i}"] = torch.where(expand_like(due, held), learned, held)
        return after

    @property
    def _level_modules(self) -> list["_ContinuumLevel"]:
        return [level for level in self.levels if isinstance(level, _ContinuumLevel)]

    def _solve_levels(self, state: MemoryState) -> list[tuple[int, Tensor]]:
        """Solve each level for its correction of the slower ones, the slowest first."""
        slower: Tensor = self.initial
        found = []
        for i, level in reversed(list(enumerate(self._level_modules))):
            gram, moment = state[f"gram{i}"], state[f"moment{i}"]
            factor = cholesky_or_nan(
                gram + level.compute_prior_evidence() * torch.eye(gram.shape[-1], device=gram.device)
            )
            added = torch.cholesky_solve(moment - gram @ slower, factor)
            slower = slower + added
            found.append((i, added))
        return found


class _ContinuumLevel(nn.Module):
    """Decay of one level, and the weight of its prior, the next slower level."""

    MIN_EVIDENCE = 0.1
    """Lower bound of the prior evidence: it must outweigh the rounding of the sums."""

    def __init__(self, *, period: int, dt: float, prior_evidence: float = 0.5):
        super().__init__()
        self.period, self.dt = period, dt
        self.log_prior_evidence = nn.Parameter(torch.tensor(math.log(math.expm1(prior_evidence))))
        self.log_half_life = nn.Parameter(torch.tensor(math.log(4 * period * dt)))
        """Half-life of the evidence, log of s."""

    def compute_prior_evidence(self) -> Tensor:
        """Return the weight of the slower level, in steps of evidence."""
        return F.softplus(self.log_prior_evidence) + self.MIN_EVIDENCE

    def compute_decay_factor(self) -> Tensor:
        """Return the share of the evidence that remains after a period."""
        return torch.exp(-self.period * decay_rate(self.log_half_life, self.dt))
