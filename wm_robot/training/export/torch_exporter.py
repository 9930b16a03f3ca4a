"""Torch exporter: converts torch functions to ONNX graphs."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from wm_robot.errors import MissingExtraError

OPSET = 20
EXPORTER_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")
"""Loggers of the exporter. They report each unfolded operation and each optional package."""


def export_function(
    model: nn.Module,
    function: Callable[..., tuple[Tensor, ...] | Tensor],
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    dynamic_rows: bool = False,
    decompositions: Mapping[Any, Callable[..., Any]] | None = None,
) -> bytes:
    """Export a function of tensors as an ONNX graph.

    Args:
        model: Module that owns the weights of the function.
        inputs: Example arguments, in order; unused ones are removed from the graph. A name with a dot never equals
            that of an internal value.
        dynamic_rows: The first axis of every argument has a variable length.
        decompositions: Operation without an ONNX equivalent → replacement. With it the function is traced by running
            it: Python branches on tensor values are fixed.

    Raises:
        MissingExtraError: If the exporter is not installed.
    """
    axis = torch.export.Dim("rows", min=1) if dynamic_rows else None
    module: nn.Module = _FunctionModule(model, function)
    if decompositions:
        module = make_fx(function, decomposition_table=dict(decompositions))(*inputs.values())
    try:
        with _suppress_messages():
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(tuple({0: axis} for _ in inputs),) if dynamic_rows else None,
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise MissingExtraError("wm-robot export", "learn") from error
    assert program is not None
    graph = program.model.graph
    for node in graph:
        # The Python origin of each operation: larger than the graph itself.
        node.metadata_props.clear()
    # Binding an array takes time, also one without use.
    for unused in [value for value in graph.inputs if not value.uses()]:
        graph.inputs.remove(unused)
    return bytes(program.model_proto.SerializeToString())


class _FunctionModule(nn.Module):
    def __init__(self, model: nn.Module, function: Callable[..., tuple[Tensor, ...] | Tensor]):
        super().__init__()
        # Weights without an owning module would be stored once per use.
        self._model, self._function = model, function

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...] | Tensor:
        return self._function(*arguments)


@contextlib.contextmanager
def _suppress_messages() -> Iterator[None]:
    """Suppress the exporter's messages. Errors, and warnings of our modules, are still shown."""
    logs = [logging.getLogger(name) for name in EXPORTER_LOGGERS]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(?!wm_robot)")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
