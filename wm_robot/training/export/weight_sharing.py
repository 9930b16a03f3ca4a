"""Weight sharing: replaces constants of exported graphs by references to the weight file of their base."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wm_robot.errors import MissingExtraError
from wm_robot.io.base_file import WEIGHTS
from wm_robot.model.graph_weights import (
    REFERENCES_KEY,
    BaseWeights,
    WeightReference,
    encode_references,
    read_references,
)

MIN_SHARED_BYTES = 1024
"""Size of the smallest constant that is replaced, in bytes: a reference has about 150."""


def share_weights(content: bytes, weights: BaseWeights) -> bytes:
    """Replace each large constant of a graph that equals a tensor of the base, or its transpose, by a reference.

    They are found by content: a traced function has no names of weights. References that are there stay.
    """
    onnx = _import_onnx()
    model, known = onnx.load_from_string(content), _index_tensors(weights.tensors)
    references = read_references(content)
    for constant in _list_own_constants(model):
        value = onnx.numpy_helper.to_array(constant)
        if value.nbytes >= MIN_SHARED_BYTES and (found := known.get(_make_key(value))):
            references[constant.name] = found
            _empty_constant(constant)
    _set_references(model, references)
    return bytes(model.SerializeToString())


def inline_weights(content: bytes, weights: BaseWeights) -> bytes:
    """Replace the references of a graph by the constants, for programs that do not know them.

    Raises:
        LookupError: If the base has no such weights.
        MissingExtraError: If onnx is not installed.
    """
    references = read_references(content)
    if not references:
        return content
    onnx = _import_onnx()
    model = onnx.load_from_string(content)
    for constant in model.graph.initializer:
        if constant.name in references:
            value = np.ascontiguousarray(weights.find_value(references[constant.name]))
            constant.CopyFrom(onnx.numpy_helper.from_array(value, constant.name))
    _set_references(model, {})
    return bytes(model.SerializeToString())


def _index_tensors(tensors: Mapping[str, np.ndarray]) -> dict[Any, WeightReference]:
    """Index the tensors of a base, and the transposes of the matrices among them, by type, shape and content."""
    known: dict[Any, WeightReference] = {}
    for transposed in (False, True):
        for name, value in sorted(tensors.items()):
            if not transposed or value.ndim == 2:
                reference = WeightReference(tensor=name, shape=value.shape, transposed=transposed)
                known.setdefault(_make_key(value.T if transposed else value), reference)
    return known


def _make_key(value: np.ndarray) -> tuple[Any, ...]:
    return value.dtype, value.shape, value.tobytes()


def _list_own_constants(model: Any) -> Sequence[Any]:
    """List the constants of a graph that it contains."""
    external = _import_onnx().TensorProto.EXTERNAL
    return [each for each in model.graph.initializer if each.data_location != external]


def _empty_constant(constant: Any) -> None:
    """Make a stub of a constant: its name, type and shape stay."""
    onnx = _import_onnx()
    stub = onnx.TensorProto(
        name=constant.name,
        data_type=constant.data_type,
        dims=constant.dims,
        data_location=onnx.TensorProto.EXTERNAL,
        external_data=[onnx.StringStringEntryProto(key="location", value=WEIGHTS)],
    )
    constant.CopyFrom(stub)


def _set_references(model: Any, references: Mapping[str, WeightReference]) -> None:
    metadata = {each.key: each.value for each in model.metadata_props if each.key != REFERENCES_KEY}
    if references:
        metadata[REFERENCES_KEY] = encode_references(references)
    _import_onnx().helper.set_model_props(model, metadata)


def _import_onnx() -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtraError("a graph with weights of its base", "learn") from error
    return onnx
