"""Update step: `predict` and `update` of a model for export, and their comparison with the exported graphs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.lifetime_state import RESIDUAL_PREFIX, LifetimeState, map_values
from wm_robot.memory.state_arrays import Arrays, ArrayState
from wm_robot.model.backend import Prediction
from wm_robot.model.onnx_backend import NEXT_STATE_PREFIX, PREDICTION_OUTPUTS, OnnxBackend
from wm_robot.model.onnx_session import STATE_PREFIX, compute_max_difference
from wm_robot.model.torch_backend import TorchBackend, to_array, to_arrays
from wm_robot.model.world_model import WorldModel
from wm_robot.training.export.elimination import ELIMINATIONS
from wm_robot.training.export.plan_iteration import MAX_DIFFERENCE_RATIO, PERTURBATION
from wm_robot.training.export.torch_exporter import export_function
from wm_robot.types import Step

RUN_STEPS = 20
"""Steps of a run in which a graph continues from its own states."""
NUM_ROUNDINGS = 32
"""Number of perturbed arguments: torch may select another hypothesis for few of them."""
MAX_SENSITIVE_SHARE = 0.25
"""Share of the steps and runs in which rounding may explain the difference of a graph. Above it the comparison has no
meaning, and the graph counts as unchecked."""


OUTCOME_INPUTS = ("next_obs", "valid", "measured")
"""Inputs of `update` that `predict` does not have."""


class UpdateStepExport:
    """`predict` and `update` of a model, as pure functions of their arguments."""

    def __init__(self, model: WorldModel):
        self.model = model
        self._state_keys = list(self._make_initial_state(1).flatten())
        self._updated_keys = [name for name in self._state_keys if not name.startswith(RESIDUAL_PREFIX)]
        """State keys that an update changes; the residual would only be copied."""

    def export_predict(self) -> bytes:
        """Export `predict` as a graph, for any number of rows."""
        inputs = self._make_example(2)
        asked = {name: value for name, value in inputs.items() if name not in OUTCOME_INPUTS}
        return export_function(self.model, self._predict_flat, asked, PREDICTION_OUTPUTS, dynamic_rows=True)

    def export_update(self, num_rows: int) -> bytes:
        """Export `update` as a graph, for a fixed number of rows."""
        return export_function(
            self.model,
            self._update_flat,
            self._make_example(num_rows),
            (*PREDICTION_OUTPUTS, *(NEXT_STATE_PREFIX + name for name in self._updated_keys)),
            decompositions=ELIMINATIONS,
        )

    def make_initial_arrays(self) -> Arrays:
        """Return the initial state of one robot."""
        # safetensors stores arrays that are not contiguous wrongly.
        return {
            name: np.ascontiguousarray(value)
            for name, value in to_arrays(self._make_initial_state(1)).flatten().items()
        }

    def compute_differences(
        self, graph: OnnxBackend, num_steps: int = 100, *, bound: float = float("inf")
    ) -> Sequence[float]:
        """Compute the differences of a graph along random movements: of the initial state, and of each step and run.

        Each step starts from the model's state. So does each run of `RUN_STEPS` steps, in which the graph continues
        from its own states: over a whole trajectory an unstable model would amplify any rounding. Invalid steps have
        NaN observations.

        Args:
            bound: Value of a larger difference of a step or run that rounding explains, since torch itself differs as
                much. If that applies to more than the share `MAX_SENSITIVE_SHARE` of them, no difference is replaced.
        """
        newborn, birth = (
            each.initial_state(initial_action=self._initial_action) for each in (graph, self._backend)
        )
        found = [_compute_max_pair_difference(_pair_values(birth, newborn))]
        excused: dict[int, float] = {}
        run: list[_SimulatedStep] = []
        for moment in self._simulate_moments(num_steps):
            run.append(moment)
            compared = [
                (self._compute_step_difference(graph, moment), [moment.state, moment.before], [moment])
            ]
            if len(run) == RUN_STEPS:
                compared.append(
                    (_compute_run_difference(graph, run), [moment.state for moment in run[:1]], run)
                )
                run = []
            for far, starts, lived in compared:
                # A NaN is never replaced, and an earlier failure makes the test unnecessary.
                if far > bound >= np.max(found):
                    if far <= MAX_DIFFERENCE_RATIO * max(
                        self._compute_own_difference(start, lived) for start in starts
                    ):
                        excused[len(found)], far = far, bound
                found.append(far)
        if len(excused) > MAX_SENSITIVE_SHARE * len(found):
            found = [excused.get(number, far) for number, far in enumerate(found)]
        return found

    def _compute_step_difference(self, graph: OnnxBackend, moment: "_SimulatedStep") -> float:
        """Compute the difference of one step from the same state: for one row, and for a batch of two."""
        step = moment.step
        expected, written = graph.update(moment.state, step)
        alone = graph.predict(moment.state, step.obs, step.action)
        pairs = [*zip(moment.expected, expected, strict=True), *zip(moment.expected, alone, strict=True)]
        pairs += _pair_values(moment.after, written)
        # The second row updates an earlier state with the same step.
        both = map_values(lambda *rows: np.concatenate(rows), moment.state, moment.before)
        twice = map_values(lambda x: np.concatenate([x, x]), step)
        expected, pair = self._backend.update(both, twice)
        by_graph, written = graph.update(both, twice)
        pairs += [*zip(expected, by_graph, strict=True)]
        return _compute_max_pair_difference([*pairs, *_pair_values(pair, written)])

    def _compute_own_difference(self, start: ArrayState, moments: Sequence["_SimulatedStep"]) -> float:
        """Compute the largest difference of torch to itself under perturbed arguments."""
        rng = np.random.default_rng(0)

        def perturb_value(value: np.ndarray) -> np.ndarray:
            rows = value.repeat(NUM_ROUNDINGS, 0)
            if not np.issubdtype(value.dtype, np.floating):
                return rows
            return rows * (1 + np.float32(PERTURBATION) * rng.standard_normal(rows.shape, np.float32))

        exact, near = start, map_values(perturb_value, start)
        for moment in moments:
            step = moment.step
            expected, exact = self._backend.update(exact, step)
            near_step = Step(
                perturb_value(step.obs),
                perturb_value(step.action),
                perturb_value(step.next_obs),
                step.valid.repeat(NUM_ROUNDINGS),
                measured=None if step.measured is None else step.measured.repeat(NUM_ROUNDINGS, 0),
            )
            others, near = self._backend.update(near, near_step)
        pairs = [*zip(expected, others, strict=True), *_pair_values(exact, near)]
        return _compute_max_pair_difference((one.repeat(NUM_ROUNDINGS, 0), other) for one, other in pairs)

    def _simulate_moments(self, num_steps: int) -> Iterator["_SimulatedStep"]:
        """Simulate random movements with torch."""
        generator, model = np.random.default_rng(0), self.model
        scales = model.obs_mean, model.change_std, model.action_mean, model.action_std
        obs_mean, change_std, action_mean, action_std = (to_array(x)[None] for x in scales)

        def random(like: np.ndarray) -> np.ndarray:
            return generator.standard_normal(like.shape, np.float32) * like

        state, obs = self._backend.initial_state(initial_action=self._initial_action), obs_mean
        before = state
        for step in range(num_steps):
            action = action_mean + random(action_std)
            next_obs = obs_mean + np.float32(0.9) * (obs - obs_mean) + random(change_std)
            valid = np.full(1, step % 7 != 6, np.float32)
            seen = np.where(valid[:, None] > 0, next_obs, np.float32(np.nan))
            given = Step(obs, action, seen, valid, measured=self._mask_outcome(generator))
            expected, after = self._backend.update(state, given)
            yield _SimulatedStep(state, before, given, expected, after)
            before, state, obs = state, after, next_obs

    def _mask_outcome(self, generator: np.random.Generator) -> np.ndarray | None:
        """Return a mask in which half of the optional channels are no readings; None for a model without them."""
        optional = list(self.model.config.optional)
        if not optional:
            return None
        measured = np.ones((1, self.model.config.obs), np.float32)
        measured[:, optional] = generator.random(len(optional)) < 0.5
        return measured

    @property
    def _backend(self) -> TorchBackend:
        return TorchBackend(self.model)

    @property
    def _initial_action(self) -> np.ndarray:
        return np.zeros((1, self.model.config.action), np.float32)

    def _predict_flat(self, obs: Tensor, action: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.predict(self._unflatten_state(state), obs, action))

    def _update_flat(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, valid: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        measured, state = (others[0], others[1:]) if self.model.config.optional else (None, others)
        step = Step(obs, action, next_obs, valid, measured=measured)
        expected, after = self.model.update(self._unflatten_state(state), step)
        written = after.flatten()
        return *expected, *(written[name] for name in self._updated_keys)

    def _unflatten_state(self, parts: Sequence[Tensor]) -> LifetimeState[Tensor]:
        return LifetimeState.unflatten(dict(zip(self._state_keys, parts, strict=True)))

    def _make_initial_state(self, rows: int) -> LifetimeState[Tensor]:
        return self.model.initial_state(initial_action=torch.zeros(rows, self.model.config.action))

    def _make_example(self, rows: int) -> dict[str, Tensor]:
        """Return a step of the initial state; each argument is a separate tensor, since a shared one would be one
        input."""
        obs, action = self.model.obs_mean.repeat(rows, 1), torch.zeros(rows, self.model.config.action)
        step = {"obs": obs, "action": action, "next_obs": obs.clone(), "valid": torch.ones(rows)}
        if self.model.config.optional:
            step["measured"] = torch.ones_like(obs)
        return step | _add_state_prefix(
            {name: value.clone() for name, value in self._make_initial_state(rows).flatten().items()}
        )


class _SimulatedStep(NamedTuple):
    """Step of the simulated movement in torch."""

    state: ArrayState
    before: ArrayState
    """State one step earlier."""
    step: Step[np.ndarray]
    expected: Prediction[np.ndarray]
    after: ArrayState


def _pair_values(one: ArrayState, other: ArrayState) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Pair the equal parts of two states."""
    # By key: parts of a memory have no order.
    known = other.flatten()
    return [(value, known[name]) for name, value in one.flatten().items()]


def _compute_run_difference(graph: OnnxBackend, run: Sequence[_SimulatedStep]) -> float:
    """Compute the difference of the last step of a run in which the graph continues from its own states."""
    state = run[0].state
    for moment in run:
        expected, state = graph.update(state, moment.step)
    last = run[-1]
    states = _pair_values(last.after, state)
    return _compute_max_pair_difference([*zip(last.expected, expected, strict=True), *states])


def _compute_max_pair_difference(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    # numpy's maximum keeps a NaN, which Python's would drop.
    return float(np.max([compute_max_difference(one, other) for one, other in pairs]))


def _add_state_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {STATE_PREFIX + name: value for name, value in state.items()}
