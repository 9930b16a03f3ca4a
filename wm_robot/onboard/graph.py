"""Functions of a base as onnxruntime graphs: what a robot asks at every step, without torch's small steps."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from wm_robot.errors import MissingExtraError

OPSET = 20
SLOW = "SkipLayerNormFusion"
"""It makes of an addition and a norm, 8 us for 64 x 128 numbers, one step of 50 us (onnxruntime 1.32)."""


class Graph:
    """A function of named arrays, as exported."""

    def __init__(self, content: bytes):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], disabled_optimizers=[SLOW]
        )
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]

    def taken(self, values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Those of the values that it asks for; what does not matter for the result is no input."""
        return {name: value.numpy() for name, value in values.items() if name in self._inputs}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        found = self._session.run(None, inputs)
        return {name: torch.from_numpy(value) for name, value in zip(self._outputs, found, strict=True)}


def exported(
    model: nn.Module,
    function: Callable[..., tuple[Tensor, ...] | Tensor],
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    rows: bool = False,
    decompositions: Mapping[Any, Callable[..., Any]] | None = None,
) -> bytes:
    """A function of tensors as a graph.

    Args:
        model: Whose weights it uses.
        inputs: Examples of its arguments, in their order. A name with a dot is never that of a step inside.
        rows: The first axis of every argument is of any length.
        decompositions: Operation that onnx does not have → what it comes down to. With it the function is traced
            by running it: what Python chooses by the values of tensors is chosen for good.

    Raises:
        MissingExtraError: If the exporter is not installed.
    """
    axis = torch.export.Dim("rows", min=1) if rows else None
    module: nn.Module = _Function(model, function)
    if decompositions:
        module = make_fx(function, decomposition_table=dict(decompositions))(*inputs.values())
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(tuple({0: axis} for _ in inputs),) if rows else None,
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise MissingExtraError("wm-robot export", "learn") from error
    assert program is not None
    for node in program.model.graph:
        # Where each step came from in Python: larger than the graph itself.
        node.metadata_props.clear()
    return bytes(program.model_proto.SerializeToString())


class _Function(nn.Module):
    def __init__(self, model: nn.Module, function: Callable[..., tuple[Tensor, ...] | Tensor]):
        super().__init__()
        # Weights that no module owns would be written once for each use.
        self._model, self._function = model, function

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...] | Tensor:
        return self._function(*arguments)


def state_input(name: str) -> str:
    """Name of a part of the state as an input of a graph."""
    return f"state.{name}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk of packages that are not needed to itself."""
    log: Any = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
