"""Functions of torch made graphs."""

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
EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir")
"""Loggers of the exporter. They name each step that is not folded, and each package that is not needed."""


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
        inputs: Examples of its arguments, in their order; those that do not matter are none of the graph's. A name
            with a dot is never that of a step inside.
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
    graph = program.model.graph
    for node in graph:
        # Where each step came from in Python: larger than the graph itself.
        node.metadata_props.clear()
    # To put an array in place takes time, also one that nobody reads.
    for unused in [value for value in graph.inputs if not value.uses()]:
        graph.inputs.remove(unused)
    return bytes(program.model_proto.SerializeToString())


class _Function(nn.Module):
    def __init__(self, model: nn.Module, function: Callable[..., tuple[Tensor, ...] | Tensor]):
        super().__init__()
        # Weights that no module owns would be written once for each use.
        self._model, self._function = model, function

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...] | Tensor:
        return self._function(*arguments)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the exporter's messages about its own work. Errors, and warnings of our modules, are still shown."""
    logs = [logging.getLogger(name) for name in EXPORTERS]
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
