"""A life's two steps as graphs: to expect the next observation, and to live a transition."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wm_robot.lifetime.memory import State
from wm_robot.models.world_model import Prediction, WorldModel
from wm_robot.onboard.graph import Graph, exported, state_input

EXPECTED = ("expected.mean", "expected.log_variance")
AFTER = "after."
aten = torch.ops.aten


class LifeGraph:
    """`predict` and `write` of a model, without torch. The state is passed in and out: it has none of its own."""

    def __init__(self, predict: Graph, write: Graph):
        self._predict, self._write = predict, write

    def predict(self, state: State, obs: Tensor, action: Tensor) -> Prediction:
        """See `WorldModel.predict`; for any number of rows."""
        found = self._predict(self._predict.taken(_named(state) | {"obs": obs, "action": action}))
        return Prediction(*(found[name] for name in EXPECTED))

    def write(
        self,
        state: State,
        obs: Tensor,
        action: Tensor,
        next_obs: Tensor,
        valid: Tensor,
        truth: Tensor | None = None,
    ) -> tuple[Prediction, State]:
        """See `WorldModel.write`; for one life, which nobody tells the truth."""
        asked = _named(state) | {"obs": obs, "action": action, "next_obs": next_obs, "valid": valid}
        found = self._write(self._write.taken(asked))
        expected = Prediction(*(found.pop(name) for name in EXPECTED))
        return expected, {name.removeprefix(AFTER): value for name, value in found.items()}


class Step:
    """`predict` and `write` of a model, with everything that changes as an argument."""

    IN_TORCH = ("hope", "ridge")
    """Families whose write comes down to factors of large matrices, for which graphs have no operation."""

    def __init__(self, model: WorldModel):
        self.model = model
        self._names = list(self._born(1))

    def predict_graph(self) -> bytes:
        """`predict` as a graph, for any number of rows."""
        inputs = self._example(2)
        asked = {name: value for name, value in inputs.items() if name not in ("next_obs", "valid")}
        return exported(self.model, self._predict, asked, EXPECTED, rows=True)

    def write_graph(self) -> bytes:
        """`write` as a graph, for one life."""
        return exported(
            self.model,
            self._write,
            self._example(1),
            (*EXPECTED, *(AFTER + name for name in self._names)),
            decompositions={
                aten.linalg_cholesky_ex.default: _cholesky,
                aten.linalg_solve_triangular.default: _solved,
                aten.cholesky_solve.default: _solved_twice,
            },
        )

    @torch.inference_mode()
    def differences(self, graph: LifeGraph, steps: int = 100) -> Sequence[float]:
        """How far a graph's steps are from the model's along a life of random movements.

        Each step begins where the model's life is: what a family decides by a hair's breadth may go either way
        once, and go on from there. Differences count in part of what they are of where that is more than 1.
        """
        generator = torch.Generator().manual_seed(0)
        model, found = self.model, []

        def random(like: Tensor) -> Tensor:
            return torch.randn(1, *like.shape, generator=generator) * like

        state, obs = self._born(1), model.obs_mean[None]
        for step in range(steps):
            action = model.action_mean + random(model.action_std)
            next_obs = model.obs_mean + 0.9 * (obs - model.obs_mean) + random(model.change_std)
            valid = torch.full((1,), float(step % 7 != 6))
            expected, after = model.write(state, obs, action, next_obs, valid)
            likewise, written = graph.write(state, obs, action, next_obs, valid)
            alone = graph.predict(state, obs, action)
            pairs = [(expected, likewise), (expected, alone), (after.values(), (written[k] for k in after))]
            apart = [_apart(x, y) for pair in pairs for x, y in zip(*pair, strict=True)]
            # torch's maximum keeps a NaN, which Python's would drop.
            found.append(float(torch.stack(apart).max()))
            state, obs = after, next_obs
        return found

    def _predict(self, obs: Tensor, action: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.predict(dict(zip(self._names, state, strict=True)), obs, action))

    def _write(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, valid: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        lived = dict(zip(self._names, state, strict=True))
        expected, after = self.model.write(lived, obs, action, next_obs, valid)
        return *expected, *(after[name] for name in self._names)

    def _born(self, rows: int) -> State:
        return self.model.birth(rows, hold=torch.zeros(rows, self.model.config.action))

    def _example(self, rows: int) -> dict[str, Tensor]:
        """A newborn's step: each argument a tensor of its own, since what is one here would be one input."""
        obs, action = self.model.obs_mean.repeat(rows, 1), torch.zeros(rows, self.model.config.action)
        step = {"obs": obs, "action": action, "next_obs": obs.clone(), "valid": torch.ones(rows)}
        return step | _named({name: value.clone() for name, value in self._born(rows).items()})


def _apart(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y).abs() / x.abs().clamp_min(1)).max()


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {state_input(name): value for name, value in state.items()}


# --- what onnx has no operation for: the matrices are small, and each column's step is written out -----------------


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
