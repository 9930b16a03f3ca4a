"""ONNX session: runs the exported functions of a base with onnxruntime, without torch."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnxruntime

from wm_robot.errors import InferenceError, SnapshotError
from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.graph_weights import NO_WEIGHTS, BaseWeights, add_weights

DISABLED_OPTIMIZER = "SkipLayerNormFusion"
"""Disabled optimizer: it fuses an addition and a norm, 8 us for 64 x 128 elements, into one step of 50 us
(onnxruntime 1.32)."""
STATE_PREFIX = "state."
"""Prefix of the inputs that are parts of the state."""


@runtime_checkable
class StateFunction(Protocol):
    """Function of a state and of named arrays."""

    def __call__(self, state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Compute the outputs by name. Inputs may contain unused arrays."""

    def bind_inputs(
        self, state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]
    ) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
        """Return the function with some of its inputs bound."""


class OnnxFunction:
    """Exported function of a state and of named arrays. It is stateless; the caller owns the outputs."""

    def __init__(self, content: bytes, name: str, weights: BaseWeights = NO_WEIGHTS):
        """Args:
            name: File name, for error messages.
            weights: Weights of the base; none for a graph that contains all of its constants.

        Raises:
            SnapshotError: If the graph is malformed, or refers to weights that the base does not have.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            # The session does not own them.
            self._constants = add_weights(options, content, weights)
            self.session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], disabled_optimizers=[DISABLED_OPTIMIZER]
            )
        except Exception as error:
            raise SnapshotError(
                f"graph '{name}' cannot be opened with the weights of its base: {str(error).strip('. '):.300}. "
                "Export it again: wm-robot export BASE"
            ) from error
        self.name = name
        names = [node.name for node in self.session.get_inputs()]
        self.state_inputs = [
            (name, name.removeprefix(STATE_PREFIX)) for name in names if name.startswith(STATE_PREFIX)
        ]
        """Inputs that are parts of the state, with their state keys."""
        self.outputs = [
            (node.name, _find_dtype(node.type), node.shape) for node in self.session.get_outputs()
        ]
        self._other_inputs = frozenset(name for name in names if not name.startswith(STATE_PREFIX))

    def __call__(self, state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> Arrays:
        """See `StateFunction`.

        Raises:
            InferenceError: If onnxruntime fails.
        """
        return self.bind_inputs(state, {})(arrays)

    def bind_inputs(self, state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> "BoundInputs":
        return BoundInputs(self, state, arrays)

    def select_inputs(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Select the arrays that are inputs of the graph."""
        return {name: value for name, value in arrays.items() if name in self._other_inputs}


class BoundInputs:
    """Graph with some inputs bound: many calls with one state bind it once."""

    def __init__(
        self, graph: OnnxFunction, state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]
    ):
        self._graph, self._binding, self._num_rows = graph, graph.session.io_binding(), 1
        try:
            for name, part in graph.state_inputs:
                self._bind_input(name, state[part])
            for name, value in graph.select_inputs(arrays).items():
                self._bind_input(name, value)
        except Exception as error:
            raise _make_run_error(graph, error) from error

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """See `OnnxFunction.__call__`; bound inputs may be left out."""
        graph, found = self._graph, Arrays()
        try:
            for name, value in graph.select_inputs(arrays).items():
                self._bind_input(name, value)
            for name, dtype, shape in graph.outputs:
                # Only the batch axis has no fixed size.
                value = np.empty([self._num_rows if isinstance(size, str) else size for size in shape], dtype)
                self._binding.bind_output(name, "cpu", 0, dtype, value.shape, value.ctypes.data)
                found[name] = value
            graph.session.run_with_iobinding(self._binding)
        except Exception as error:
            raise _make_run_error(graph, error) from error
        return found

    def _bind_input(self, name: str, value: np.ndarray) -> None:
        # Without a copy: onnxruntime keeps the array while it is bound.
        self._binding.bind_cpu_input(name, np.ascontiguousarray(value))
        self._num_rows = len(value)


def compute_max_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the largest difference, relative where `one` exceeds 1; NaN equals NaN."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other) / np.maximum(np.abs(one), 1)
    # numpy's maximum keeps a NaN, which Python's would drop.
    return float(np.where(same, 0, difference).max(initial=0))


def _find_dtype(kind: str) -> Any:
    return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[kind]


def _make_run_error(graph: OnnxFunction, error: Exception) -> InferenceError:
    return InferenceError(
        f"graph '{graph.name}' failed: {type(error).__name__}: {str(error):.300}. Stop this agent, and export its "
        "graphs again: wm-robot export BASE"
    )
