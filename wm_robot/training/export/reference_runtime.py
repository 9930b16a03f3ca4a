"""Reference runtime: runs graphs with the NumPy reference of ONNX; slow and independent of onnxruntime."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.graph_weights import NO_WEIGHTS, BaseWeights
from wm_robot.model.onnx_session import STATE_PREFIX
from wm_robot.training.export.weight_sharing import inline_weights


def has_reference() -> bool:
    """Whether the package `onnx` is installed."""
    return importlib.util.find_spec("onnx") is not None


class ReferenceFunction:
    """ONNX graph run by the reference evaluator; see `StateFunction`."""

    def __init__(self, content: bytes, name: str, weights: BaseWeights = NO_WEIGHTS):
        import onnx
        from onnx.reference import ReferenceEvaluator
        from onnx.reference.op_run import OpRun

        class GatherElements(OpRun):  # type: ignore[misc,unused-ignore]
            """Replacement for that of onnx 1.23, which gathers from at most 64 rows."""

            def _run(self, data: np.ndarray, indices: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
                return (np.take_along_axis(data, indices, axis),)

        self._run: Any = ReferenceEvaluator(
            onnx.load_from_string(inline_weights(content, weights)), new_ops=[GatherElements]
        )

    def __call__(self, state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> Arrays:
        values = {**arrays, **{STATE_PREFIX + name: value for name, value in state.items()}}
        inputs = {name: values[name] for name in self._run.input_names}
        # Values that overflow and are not selected do not matter.
        with np.errstate(all="ignore"):
            return dict(zip(self._run.output_names, self._run.run(None, inputs), strict=True))

    def bind_inputs(
        self, state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]
    ) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
        return lambda more: self(state, {**arrays, **more})
