"""Graph weights: large constants of ONNX graphs that are stored once, in the weight file of their base.

A graph lists them in its metadata, as references from the constant's name to a tensor of the base. The constants
themselves are stubs without data. A graph without the list contains all of its constants.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import onnxruntime
from safetensors.numpy import save

from wm_robot.io.base_file import WEIGHTS
from wm_robot.io.tensor_file import parse_tensors
from wm_robot.memory.state_arrays import Arrays

REFERENCES_KEY = "wm_robot.weights"
"""Key of the references in the metadata of a graph."""
_METADATA_FIELD, _KEY_FIELD, _VALUE_FIELD = 14, 1, 2
"""Protobuf fields of `ModelProto.metadata_props` and of `StringStringEntryProto`."""
_VARINT, _LENGTH_DELIMITED = 0, 2
"""Protobuf wire types: the only ones of the fields of `ModelProto`."""


@dataclass(frozen=True, kw_only=True)
class WeightReference:
    """Reference of a graph's constant to a tensor of the base."""

    tensor: str
    """Name in the weight file."""
    shape: tuple[int, ...]
    """Shape in the weight file."""
    transposed: bool = False
    """Whether the constant is the transpose of the tensor, which then is a matrix."""


class BaseWeights:
    """Weights of a base for all sessions of its graphs: they use the same arrays."""

    def __init__(self, content: bytes):
        """Args:
        content: Bytes of the weight file, checked against the base's digest; see `Base.weights`.
        """
        self._content = content
        self._values: dict[tuple[str, bool], onnxruntime.OrtValue] = {}

    @cached_property
    def tensors(self) -> Arrays:
        """Tensors by name, as read-only views.

        Raises:
            SnapshotError: If the weight file is malformed.
        """
        return parse_tensors(self._content, WEIGHTS)

    def find_value(self, reference: WeightReference) -> np.ndarray:
        """Return the constant that a reference stands for; it is not contiguous if transposed.

        Raises:
            LookupError: If the base has no such tensor of that shape.
        """
        found = self.tensors.get(reference.tensor)
        if found is None:
            raise LookupError(f"the base has no tensor '{reference.tensor}'")
        if found.shape != reference.shape:
            raise LookupError(
                f"tensor '{reference.tensor}' of the base has shape {found.shape}; "
                f"the graph needs {reference.shape}"
            )
        return found.T if reference.transposed else found

    def find_session_value(self, reference: WeightReference) -> onnxruntime.OrtValue:
        """Return the constant for a session; its owner must keep it. See `find_value`."""
        key = reference.tensor, reference.transposed
        value = self.find_value(reference)
        if key not in self._values:
            self._values[key] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))
        return self._values[key]


NO_WEIGHTS = BaseWeights(save({}))
"""Weights for a graph without references."""


def read_references(content: bytes) -> dict[str, WeightReference]:
    """Read the references of a graph by the name of the constant; empty if it contains all of its constants.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: If the graph or its list is malformed.
    """
    for number, entry in _list_fields(memoryview(content)):
        if number == _METADATA_FIELD:
            fields = dict(_list_fields(entry))
            if bytes(fields.get(_KEY_FIELD, b"")) == REFERENCES_KEY.encode():
                return _decode_references(bytes(fields[_VALUE_FIELD]))
    return {}


def encode_references(references: Mapping[str, WeightReference]) -> str:
    """Encode the list for a graph's metadata."""
    return json.dumps({name: asdict(each) for name, each in references.items()}, separators=(",", ":"))


def add_weights(
    options: onnxruntime.SessionOptions, content: bytes, weights: BaseWeights
) -> Sequence[onnxruntime.OrtValue]:
    """Add the constants that a graph refers to, to the options of its session.

    Returns:
        Constants; they must exist as long as the session.

    Raises:
        LookupError: If the base has no such weights.
        ValueError, KeyError, TypeError, IndexError, AttributeError: See `read_references`.
    """
    references = read_references(content)
    values = [weights.find_session_value(each) for each in references.values()]
    options.add_external_initializers(list(references), values)
    return values


def _decode_references(text: bytes) -> dict[str, WeightReference]:
    return {
        name: WeightReference(**{**values, "shape": tuple(values["shape"])})
        for name, values in json.loads(text).items()
    }


def _list_fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """List the fields of a protobuf message that have a length, with their numbers."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type not in (_VARINT, _LENGTH_DELIMITED):
            raise ValueError(f"field {number} has unknown wire type {wire_type}")
        size, position = _read_varint(message, position)
        if wire_type == _LENGTH_DELIMITED:
            if position + size > len(message):
                raise ValueError(f"field {number} ends after its message")
            yield number, message[position : position + size]
            position += size


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read a protobuf integer, and return it with the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
