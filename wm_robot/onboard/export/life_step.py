"""A life's two steps in torch, to be exported, and to be compared with what was."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wm_robot.lifetime.arrays import Arrays
from wm_robot.lifetime.memory import State
from wm_robot.models.in_torch import ModelLives, array, arrays
from wm_robot.models.residual import PREFIX
from wm_robot.models.world_model import WorldModel
from wm_robot.onboard.export.exporter import exported
from wm_robot.onboard.graph import STATE, apart
from wm_robot.onboard.life_graph import AFTER, EXPECTED, LifeGraph

aten = torch.ops.aten


class Step:
    """`predict` and `write` of a model, with everything that changes as an argument."""

    IN_TORCH = ("hope", "ridge")
    """Families whose write comes down to factors of large matrices, for which graphs have no operation."""

    def __init__(self, model: WorldModel):
        self.model = model
        self._names = list(self._born(1))
        self._written = [name for name in self._names if not name.startswith(PREFIX)]
        """What a step changes: not the residual, which would only be copied."""

    def predict_graph(self) -> bytes:
        """`predict` as a graph, for any number of rows."""
        inputs = self._example(2)
        asked = {name: value for name, value in inputs.items() if name not in ("next_obs", "valid")}
        return exported(self.model, self._predict, asked, EXPECTED, rows=True)

    def write_graph(self, lives: int) -> bytes:
        """`write` as a graph, for so many lives side by side."""
        return exported(
            self.model,
            self._write,
            self._example(lives),
            (*EXPECTED, *(AFTER + name for name in self._written)),
            decompositions={
                torch.ops.wm_robot.whitened.default: _whitened,
                aten.linalg_cholesky_ex.default: _cholesky,
                aten.linalg_solve_triangular.default: _solved,
                aten.cholesky_solve.default: _solved_twice,
            },
        )

    def born(self) -> Arrays:
        """The state of one robot that has lived nothing."""
        # A safetensors file takes what is not contiguous for what it is not.
        return {name: np.ascontiguousarray(value) for name, value in arrays(self._born(1)).items()}

    def differences(self, graph: LifeGraph, steps: int = 100) -> Sequence[float]:
        """How far a graph's steps are from the model's along a life of random movements, from birth on.

        Each step begins where the model's life is: what a family decides by a hair's breadth may go either way
        once, and go on from there. Steps that are not to be learned from are told as NaN.
        """
        generator, model = np.random.default_rng(0), self.model
        lives, found = ModelLives(model), []
        scales = model.obs_mean, model.change_std, model.action_mean, model.action_std
        obs_mean, change_std, action_mean, action_std = (array(x)[None] for x in scales)

        def random(like: np.ndarray) -> np.ndarray:
            return generator.standard_normal(like.shape, np.float32) * like

        hold = np.zeros_like(action_mean)
        state, obs = lives.birth(hold=hold), obs_mean
        before = state
        newborn = graph.birth(hold=hold)
        found.append(float(np.max([apart(value, newborn[name]) for name, value in state.items()])))
        for step in range(steps):
            action = action_mean + random(action_std)
            next_obs = obs_mean + np.float32(0.9) * (obs - obs_mean) + random(change_std)
            valid = np.full(1, step % 7 != 6, np.float32)
            heard = np.where(valid[:, None] > 0, next_obs, np.float32(np.nan))
            expected, after = lives.write(state, obs, action, heard, valid)
            likewise, written = graph.write(state, obs, action, heard, valid)
            alone = graph.predict(state, obs, action)
            pairs = [*zip(expected, likewise, strict=True), *zip(expected, alone, strict=True)]
            pairs += [(value, written[name]) for name, value in after.items()]
            # Beside a second life, that lives the same a step later.
            both = {name: np.concatenate([value, before[name]]) for name, value in state.items()}
            twice = [np.concatenate([x, x]) for x in (obs, action, heard, valid)]
            expected, pair = lives.write(both, *twice)
            likewise, written = graph.write(both, *twice)
            pairs += [*zip(expected, likewise, strict=True)]
            pairs += [(value, written[name]) for name, value in pair.items()]
            found.append(float(np.max([apart(x, y) for x, y in pairs])))
            before, state, obs = state, after, next_obs
        return found

    def _predict(self, obs: Tensor, action: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.predict(dict(zip(self._names, state, strict=True)), obs, action))

    def _write(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, valid: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        lived = dict(zip(self._names, state, strict=True))
        expected, after = self.model.write(lived, obs, action, next_obs, valid)
        return *expected, *(after[name] for name in self._written)

    def _born(self, rows: int) -> State:
        return self.model.birth(rows, hold=torch.zeros(rows, self.model.config.action))

    def _example(self, rows: int) -> dict[str, Tensor]:
        """A newborn's step: each argument a tensor of its own, since what is one here would be one input."""
        obs, action = self.model.obs_mean.repeat(rows, 1), torch.zeros(rows, self.model.config.action)
        step = {"obs": obs, "action": action, "next_obs": obs.clone(), "valid": torch.ones(rows)}
        return step | _named({name: value.clone() for name, value in self._born(rows).items()})


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {STATE + name: value for name, value in state.items()}


# --- what onnx has no operation for: the matrices are small, and each column's step is written out -----------------


def _whitened(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """`ops.cholesky.whitened`, by elimination. What is done is left where it is: for some 12 rows its arithmetic is
    cheaper than to cut it off. Rows are divided by the roots of their pivots at the end, all at once."""
    size, rows, pivots = matrix.shape[-1], [], []
    rest = torch.cat([matrix, right], -1)
    for j in range(size):
        row, column = rest[..., j : j + 1, :], rest[..., j : j + 1]
        pivot = row[..., j : j + 1]
        rows.append(row)
        pivots.append(pivot)
        if j + 1 < size:
            # What is left of the matrix is symmetric.
            rest = rest - column @ (row / pivot)
    deviation = torch.cat(pivots, -2).sqrt()
    return torch.cat(rows, -2)[..., size:] / deviation, deviation[..., 0]


def _cholesky(matrix: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """`linalg.cholesky_ex`; NaN is its only word for failure."""
    assert not upper
    columns, rest = [], matrix
    for j in range(matrix.shape[-1]):
        column = rest[..., :1] * torch.rsqrt(rest[..., :1, :1])
        columns.append(nn.functional.pad(column, (0, 0, j, 0)))
        below = column[..., 1:, :]
        rest = rest[..., 1:, 1:] - below * below.mT
    return torch.cat(columns, -1), torch.zeros(matrix.shape[:-2], dtype=torch.int32)


def _solved(
    factor: Tensor, right: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """`linalg.solve_triangular`."""
    assert left
    if upper:
        turned = factor.flip(-2, -1), right.flip(-2)
        return _solved(*turned, upper=False, unitriangular=unitriangular).flip(-2)
    rows, rest = [], right
    for j in range(factor.shape[-1]):
        row = rest[..., :1, :]
        if not unitriangular:
            row = row / factor[..., j : j + 1, j : j + 1]
        rows.append(row)
        rest = rest[..., 1:, :] - factor[..., j + 1 :, j : j + 1] * row
    return torch.cat(rows, -2)


def _solved_twice(right: Tensor, factor: Tensor, upper: bool = False) -> Tensor:
    """`cholesky_solve`."""
    assert not upper
    return _solved(factor.mT, _solved(factor, right, upper=False), upper=True)
