"""A continuum of levels that change ever more slowly, each the prior of the next faster one."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.math.cholesky import cholesky
from wm_robot.memory.memory import State, beside, forgetting


class Continuum(nn.Module):
    """Regression of one target on one set of features, over ever longer times.

    Each level sums what it has seen and forgets it at its own rate. Once in its period it is solved for what it adds
    to the slower levels, which it trusts as far as a few steps of its own evidence go: the slow ones hold what is
    always so, the fast ones how the present differs from it.

    Source: the continuum memory system of Behrouz et al. (2025), arXiv:2512.24695, equations 70-71. Differs: a level
    is solved in closed form instead of by gradient steps, of which 4096 control steps allow the slowest four; levels
    are summed, not composed, so that the features of one do not move with what another learns; and one target serves
    all, since no gradient reaches a write that comes once in a thousand steps.
    """

    def __init__(
        self, *, width: int, outcome: int, periods: Sequence[int], features: int, values: int, dt: float
    ):
        super().__init__()
        self.feature = nn.Linear(width, features)
        self.target = nn.Linear(width + outcome, values)
        self.out = nn.Linear(values, width)
        self.initial = nn.Parameter(torch.randn(features, values) / math.sqrt(features))
        self.levels = nn.ModuleList(_Level(period=period, dt=dt) for period in periods)

    def birth(self, batch: int) -> State:
        """What each level adds, what it has seen, and what it has seen since it was last solved: nothing yet."""
        features, values = self.initial.shape
        state = {}
        for i in range(len(self.levels)):
            for name, columns in (("level", values), ("gram", features), ("moment", values)):
                state[f"{name}{i}"] = torch.zeros(batch, features, columns, device=self.initial.device)
            for name in ("gram", "moment"):
                state[f"new_{name}{i}"] = torch.zeros_like(state[f"{name}{i}"])
        return state

    def reader(self, state: State) -> Callable[[Tensor], Tensor]:
        """What all levels together say of a query, `B N D`."""
        weights = self.initial + sum(state[f"level{i}"] for i in range(len(self.levels)))
        return lambda h: self.out(self.features(h) @ weights)

    def features(self, h: Float[Tensor, "B N D"]) -> Float[Tensor, "B N F"]:
        return F.normalize(self.feature(h), dim=-1, eps=1e-6)

    def write(
        self,
        state: State,
        h: Float[Tensor, "B T D"],
        x: Float[Tensor, "B T X"],
        w: Float[Tensor, "B T"],
        lived: Tensor,
    ) -> State:
        """The levels after steps in which no period ends before the last of them.

        Args:
            x: Query and outcome.
            lived: Steps that each life has lived then, `B`.
        """
        features = torch.where(w[..., None] > 0, self.features(h), 0.0)
        seen = (w[..., None] * features).mT
        news = {"gram": seen @ features, "moment": seen @ self.target(x)}
        written = (w > 0).any(1)
        after: State = {}
        for i, level in enumerate(self._levels):
            due = written & (lived % level.period == 0)
            for name, new in news.items():
                fresh = state[f"new_{name}{i}"] + new
                held = state[f"{name}{i}"]
                after[f"{name}{i}"] = torch.where(beside(due, held), level.left() * held + fresh, held)
                after[f"new_{name}{i}"] = torch.where(beside(due, fresh), 0.0, fresh)
        due = written & (lived % self._levels[0].period == 0)
        if not due.any():
            return after | {f"level{i}": state[f"level{i}"] for i in range(len(self.levels))}
        for i, learned in self._solved(after):
            held = state[f"level{i}"]
            after[f"level{i}"] = torch.where(beside(due, held), learned, held)
        return after

    @property
    def _levels(self) -> list["_Level"]:
        return [level for level in self.levels if isinstance(level, _Level)]

    def _solved(self, state: State) -> list[tuple[int, Tensor]]:
        """What each level adds to the slower ones, the slowest first."""
        slower: Tensor = self.initial
        found = []
        for i, level in reversed(list(enumerate(self._levels))):
            gram, moment = state[f"gram{i}"], state[f"moment{i}"]
            factor = cholesky(gram + level.prior() * torch.eye(gram.shape[-1], device=gram.device))
            added = torch.cholesky_solve(moment - gram @ slower, factor)
            slower = slower + added
            found.append((i, added))
        return found


class _Level(nn.Module):
    """How one level forgets, and how far it trusts the slower one behind it."""

    LEAST = 0.1
    """Of the trust: it has to outweigh the rounding of the sums."""

    def __init__(self, *, period: int, dt: float, trust: float = 0.5):
        super().__init__()
        self.period, self.dt = period, dt
        self.trust = nn.Parameter(torch.tensor(math.log(math.expm1(trust))))
        self.log_half_life = nn.Parameter(torch.tensor(math.log(4 * period * dt)))
        """Of its evidence, log of s."""

    def prior(self) -> Tensor:
        """Steps of evidence that the slower level counts for."""
        return F.softplus(self.trust) + self.LEAST

    def left(self) -> Tensor:
        """Of its evidence, after a period."""
        return torch.exp(-self.period * forgetting(self.log_half_life, self.dt))
