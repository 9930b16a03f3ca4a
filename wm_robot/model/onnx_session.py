"""Functions of a base as onnxruntime graphs: what a robot asks at every step, without torch."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnxruntime

from wm_robot.errors import InferenceError
from wm_robot.memory.state_arrays import Arrays

SLOW = "SkipLayerNormFusion"
"""It makes of an addition and a norm, 8 us for 64 x 128 numbers, one step of 50 us (onnxruntime 1.32)."""
STATE = "state."
"""What the name of an input begins with that is a part of the state."""


@runtime_checkable
class Function(Protocol):
    """A function of a state and of named arrays."""

    def __call__(self, state: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> Arrays:
        """Outputs by name. What does not matter for the result may be among the inputs."""

    def bound(
        self, state: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]
    ) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
        """The function with some of its inputs in place."""


class Graph:
    """A function of a state and of named arrays, as exported. It has no memory: what it gives is the caller's."""

    def __init__(self, content: bytes, name: str):
        """Args:
        name: For errors.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], disabled_optimizers=[SLOW]
        )
        self.name = name
        names = [node.name for node in self.session.get_inputs()]
        self.of_state = [(name, name.removeprefix(STATE)) for name in names if name.startswith(STATE)]
        """Inputs that are parts of the state, and the names that they have there."""
        self.outputs = [(node.name, _dtype(node.type), node.shape) for node in self.session.get_outputs()]
        self._others = frozenset(name for name in names if not name.startswith(STATE))

    def __call__(self, state: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> Arrays:
        """See `Function`.

        Raises:
            InferenceError: If onnxruntime refuses.
        """
        return self.bound(state, {})(given)

    def bound(self, state: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> "Bound":
        return Bound(self, state, given)

    def known(self, given: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Those of them that are inputs."""
        return {name: value for name, value in given.items() if name in self._others}


class Bound:
    """A graph some of whose inputs are in place already: many calls at one moment of a life bind it once."""

    def __init__(self, graph: Graph, state: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]):
        self._graph, self._binding, self._rows = graph, graph.session.io_binding(), 1
        try:
            for name, part in graph.of_state:
                self._bind(name, state[part])
            for name, value in graph.known(given).items():
                self._bind(name, value)
        except Exception as error:
            raise _refused(graph, error) from error

    def __call__(self, given: Mapping[str, np.ndarray]) -> Arrays:
        """See `Graph.__call__`; what was in place may be left out."""
        graph, found = self._graph, Arrays()
        try:
            for name, value in graph.known(given).items():
                self._bind(name, value)
            for name, dtype, shape in graph.outputs:
                # Only rows have no fixed number.
                value = np.empty([self._rows if isinstance(size, str) else size for size in shape], dtype)
                self._binding.bind_output(name, "cpu", 0, dtype, value.shape, value.ctypes.data)
                found[name] = value
            graph.session.run_with_iobinding(self._binding)
        except Exception as error:
            raise _refused(graph, error) from error
        return found

    def _bind(self, name: str, value: np.ndarray) -> None:
        # In place: onnxruntime keeps the array as long as it is bound.
        self._binding.bind_cpu_input(name, np.ascontiguousarray(value))
        self._rows = len(value)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference, in part of what the one is where that is more than 1; NaN is no different from NaN."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other) / np.maximum(np.abs(one), 1)
    # numpy's maximum keeps a NaN, which Python's would drop.
    return float(np.where(same, 0, difference).max(initial=0))


def _dtype(kind: str) -> Any:
    return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[kind]


def _refused(graph: Graph, error: Exception) -> InferenceError:
    return InferenceError(
        f"graph '{graph.name}' did not run: {type(error).__name__}: {str(error):.300}. Stop this agent, and make its "
        "graphs again: wm-robot export BASE"
    )
