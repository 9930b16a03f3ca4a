"""Update step: `predict` and `update` of a model for export, and their comparison with the exported graphs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# Registers the operator that is replaced below; memory families are loaded one by one.
import wm_robot.math.cholesky  # noqa: F401
from wm_robot.memory.lifetime_state import RESIDUAL_PREFIX, LifetimeState, map_values
from wm_robot.memory.state_arrays import Arrays, ArrayState
from wm_robot.model.backend import Prediction
from wm_robot.model.onnx_backend import AFTER, EXPECTED, LifeGraph
from wm_robot.model.onnx_session import STATE, apart
from wm_robot.model.torch_backend import ModelLives, array, arrays
from wm_robot.model.world_model import WorldModel
from wm_robot.training.export.plan_iteration import OWN, ROUNDING
from wm_robot.training.export.torch_exporter import exported
from wm_robot.types import Step

aten = torch.ops.aten
RUN = 20
"""Steps of a run in which a graph continues from its own states."""
ROUNDED = 32
"""Number of perturbed arguments: torch may select another hypothesis for few of them."""
SENSITIVE = 0.25
"""Share of the steps and runs in which rounding may explain the difference of a graph. Above it the comparison has no
meaning, and the graph counts as unchecked."""


class UpdateStep:
    """`predict` and `update` of a model, as pure functions of their arguments."""

    def __init__(self, model: WorldModel):
        self.model = model
        self._names = list(self._born(1).flatten())
        self._written = [name for name in self._names if not name.startswith(RESIDUAL_PREFIX)]
        """State keys that an update changes; the residual would only be copied."""

    def predict_graph(self) -> bytes:
        """Export `predict` as a graph, for any number of rows."""
        inputs = self._example(2)
        asked = {name: value for name, value in inputs.items() if name not in ("next_obs", "valid")}
        return exported(self.model, self._predict, asked, EXPECTED, rows=True)

    def write_graph(self, lives: int) -> bytes:
        """Export `update` as a graph, for a fixed number of rows."""
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
        """Return the initial state of one robot."""
        # safetensors stores arrays that are not contiguous wrongly.
        return {name: np.ascontiguousarray(value) for name, value in arrays(self._born(1)).flatten().items()}

    def differences(
        self, graph: LifeGraph, steps: int = 100, *, bound: float = float("inf")
    ) -> Sequence[float]:
        """Compute the differences of a graph along random movements: of the initial state, and of each step and run.

        Each step starts from the model's state. So does each run of `RUN_STEPS` steps, in which the graph continues
        from its own states: over a whole trajectory an unstable model would amplify any rounding. Invalid steps have
        NaN observations.

        Args:
            bound: Value of a larger difference of a step or run that rounding explains, since torch itself differs as
                much. If that applies to more than the share `MAX_SENSITIVE_SHARE` of them, no difference is replaced.
        """
        newborn, birth = (each.birth(hold=self._hold) for each in (graph, self._lives))
        found = [_furthest(_pairs(birth, newborn))]
        excused: dict[int, float] = {}
        run: list[_Moment] = []
        for moment in self._moments(steps):
            run.append(moment)
            compared = [(self._step_difference(graph, moment), [moment.state, moment.before], [moment])]
            if len(run) == RUN:
                compared.append((_run_difference(graph, run), [moment.state for moment in run[:1]], run))
                run = []
            for far, starts, lived in compared:
                # A NaN is never replaced, and an earlier failure makes the test unnecessary.
                if far > bound >= np.max(found):
                    if far <= OWN * max(self._own_difference(start, lived) for start in starts):
                        excused[len(found)], far = far, bound
                found.append(far)
        if len(excused) > SENSITIVE * len(found):
            found = [excused.get(number, far) for number, far in enumerate(found)]
        return found

    def _step_difference(self, graph: LifeGraph, moment: "_Moment") -> float:
        """Compute the difference of one step from the same state: for one row, and for a batch of two."""
        step = moment.step
        expected, written = graph.write(moment.state, step)
        alone = graph.predict(moment.state, step.obs, step.action)
        pairs = [*zip(moment.expected, expected, strict=True), *zip(moment.expected, alone, strict=True)]
        pairs += _pairs(moment.after, written)
        # The second row updates an earlier state with the same step.
        both = map_values(lambda *rows: np.concatenate(rows), moment.state, moment.before)
        twice = map_values(lambda x: np.concatenate([x, x]), step)
        expected, pair = self._lives.write(both, twice)
        by_graph, written = graph.write(both, twice)
        pairs += [*zip(expected, by_graph, strict=True)]
        return _furthest([*pairs, *_pairs(pair, written)])

    def _own_difference(self, start: ArrayState, lived: Sequence["_Moment"]) -> float:
        """Compute the largest difference of torch to itself under perturbed arguments."""
        rng = np.random.default_rng(0)

        def rounded(value: np.ndarray) -> np.ndarray:
            rows = value.repeat(ROUNDED, 0)
            if not np.issubdtype(value.dtype, np.floating):
                return rows
            return rows * (1 + np.float32(ROUNDING) * rng.standard_normal(rows.shape, np.float32))

        exact, near = start, map_values(rounded, start)
        for moment in lived:
            step = moment.step
            expected, exact = self._lives.write(exact, step)
            near_step = Step(
                rounded(step.obs), rounded(step.action), rounded(step.next_obs), step.valid.repeat(ROUNDED)
            )
            others, near = self._lives.write(near, near_step)
        pairs = [*zip(expected, others, strict=True), *_pairs(exact, near)]
        return _furthest((one.repeat(ROUNDED, 0), other) for one, other in pairs)

    def _moments(self, steps: int) -> Iterator["_Moment"]:
        """Simulate random movements with torch."""
        generator, model = np.random.default_rng(0), self.model
        scales = model.obs_mean, model.change_std, model.action_mean, model.action_std
        obs_mean, change_std, action_mean, action_std = (array(x)[None] for x in scales)

        def random(like: np.ndarray) -> np.ndarray:
            return generator.standard_normal(like.shape, np.float32) * like

        state, obs = self._lives.birth(hold=self._hold), obs_mean
        before = state
        for step in range(steps):
            action = action_mean + random(action_std)
            next_obs = obs_mean + np.float32(0.9) * (obs - obs_mean) + random(change_std)
            valid = np.full(1, step % 7 != 6, np.float32)
            seen = np.where(valid[:, None] > 0, next_obs, np.float32(np.nan))
            given = Step(obs, action, seen, valid)
            expected, after = self._lives.write(state, given)
            yield _Moment(state, before, given, expected, after)
            before, state, obs = state, after, next_obs

    @property
    def _lives(self) -> ModelLives:
        return ModelLives(self.model)

    @property
    def _hold(self) -> np.ndarray:
        return np.zeros((1, self.model.config.action), np.float32)

    def _predict(self, obs: Tensor, action: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.predict(self._state(state), obs, action))

    def _write(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, valid: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        expected, after = self.model.write(self._state(state), Step(obs, action, next_obs, valid))
        written = after.flatten()
        return *expected, *(written[name] for name in self._written)

    def _state(self, parts: Sequence[Tensor]) -> LifetimeState[Tensor]:
        return LifetimeState.unflatten(dict(zip(self._names, parts, strict=True)))

    def _born(self, rows: int) -> LifetimeState[Tensor]:
        return self.model.birth(hold=torch.zeros(rows, self.model.config.action))

    def _example(self, rows: int) -> dict[str, Tensor]:
        """Return a step of the initial state; each argument is a separate tensor, since a shared one would be one
        input."""
        obs, action = self.model.obs_mean.repeat(rows, 1), torch.zeros(rows, self.model.config.action)
        step = {"obs": obs, "action": action, "next_obs": obs.clone(), "valid": torch.ones(rows)}
        return step | _named({name: value.clone() for name, value in self._born(rows).flatten().items()})


class _Moment(NamedTuple):
    """Step of the simulated movement in torch."""

    state: ArrayState
    before: ArrayState
    """State one step earlier."""
    step: Step[np.ndarray]
    expected: Prediction[np.ndarray]
    after: ArrayState


def _pairs(one: ArrayState, other: ArrayState) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Pair the equal parts of two states."""
    # By key: parts of a memory have no order.
    known = other.flatten()
    return [(value, known[name]) for name, value in one.flatten().items()]


def _run_difference(graph: LifeGraph, run: Sequence[_Moment]) -> float:
    """Compute the difference of the last step of a run in which the graph continues from its own states."""
    state = run[0].state
    for moment in run:
        expected, state = graph.write(state, moment.step)
    last = run[-1]
    states = _pairs(last.after, state)
    return _furthest([*zip(last.expected, expected, strict=True), *states])


def _furthest(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    # numpy's maximum keeps a NaN, which Python's would drop.
    return float(np.max([apart(one, other) for one, other in pairs]))


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {STATE + name: value for name, value in state.items()}


def _whitened(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Replace `math.cholesky.whitened` by unrolled elimination: ONNX has no such operation, the matrices are small.
    Completed columns stay: for about 12 rows their arithmetic is cheaper than a slice. Rows are divided by the roots
    of their pivots at the end, all at once."""
    size, rows, pivots = matrix.shape[-1], [], []
    rest = torch.cat([matrix, right], -1)
    for j in range(size):
        row, column = rest[..., j : j + 1, :], rest[..., j : j + 1]
        pivot = row[..., j : j + 1]
        rows.append(row)
        pivots.append(pivot)
        if j + 1 < size:
            # The remaining matrix is symmetric.
            rest = rest - column @ (row / pivot)
    deviation = torch.cat(pivots, -2).sqrt()
    return torch.cat(rows, -2)[..., size:] / deviation, deviation[..., 0]


def _cholesky(matrix: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """Replace `linalg.cholesky_ex`; a failure gives NaN."""
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
    """Replace `linalg.solve_triangular`."""
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
    """Replace `cholesky_solve`."""
    assert not upper
    return _solved(factor.mT, _solved(factor, right, upper=False), upper=True)
