"""Tensor file for untrusted input: the header of a safetensors file is checked before an array is made of it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.io.strict_json import parse_json

MAX_HEADER_BYTES = 1 << 20
"""Bytes."""
MAX_TENSORS, MAX_AXES = 4096, 16
METADATA = "__metadata__"
_LENGTH = 8
_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "U16": np.uint16,
    "F16": np.float16,
    "I32": np.int32,
    "U32": np.uint32,
    "F32": np.float32,
    "I64": np.int64,
    "U64": np.uint64,
    "F64": np.float64,
}


class _TensorPlace(NamedTuple):
    """Place of a tensor in the file, from its header."""

    start: int
    stop: int
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def parse_tensors(content: bytes, what: str) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file, as read-only views of its bytes.

    Args:
        what: Name of the file, for the error.

    Raises:
        SnapshotError: If the header is too large, has a key twice, or does not assign every byte to exactly one
            tensor.
    """
    header, body = _split_header(content, what)
    values = parse_json(header, f"the header of {what}")
    if not isinstance(values, dict) or len(values) > MAX_TENSORS:
        raise SnapshotError(f"the header of {what} is no list of at most {MAX_TENSORS} tensors")
    places = sorted(_parse_place(name, each, what) for name, each in values.items() if name != METADATA)
    covered = 0
    for place in places:
        if place.start != covered:
            raise SnapshotError(
                f"tensor {place.name!r:.60} of {what} starts at byte {place.start}; it must start at {covered}, "
                "where the previous one ends"
            )
        covered = place.stop
    if covered != len(body):
        raise SnapshotError(f"the tensors of {what} end at byte {covered} of {len(body)}")
    return {place.name: _view_tensor(body, place, what) for place in places}


def describe_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return name → dtype, shape, and whether all numbers are finite, as plain values."""
    return {
        name: {"dtype": str(value.dtype), "shape": list(value.shape), "finite": is_finite(value)}
        for name, value in tensors.items()
    }


def is_finite(value: np.ndarray) -> bool:
    """Whether no number is NaN or infinite."""
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _split_header(content: bytes, what: str) -> tuple[bytes, memoryview]:
    length = int.from_bytes(content[:_LENGTH], "little")
    if len(content) < _LENGTH or length > min(MAX_HEADER_BYTES, len(content) - _LENGTH):
        raise SnapshotError(
            f"{what} is no tensor file: it claims a header of {length} bytes, of {len(content)} in all; "
            f"at most {MAX_HEADER_BYTES} are read"
        )
    return content[_LENGTH : _LENGTH + length], memoryview(content)[_LENGTH + length :]


def _parse_place(name: str, entry: Any, what: str) -> _TensorPlace:
    try:
        (begin, end), shape, dtype = entry["data_offsets"], entry["shape"], np.dtype(_DTYPES[entry["dtype"]])
        numbers = [begin, end, *shape]
        if len(entry) != 3 or len(shape) > MAX_AXES or any(type(each) is not int for each in numbers):
            raise ValueError("it must have data_offsets, shape and dtype, and whole numbers in them")
        # Python's integers: a product that overflows would make a huge tensor seem small.
        if min(numbers) < 0 or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("its shape and its bytes do not agree")
    except (ValueError, TypeError, KeyError) as error:
        raise SnapshotError(f"tensor {name!r:.60} of {what} is invalid: {str(error):.100}") from error
    return _TensorPlace(begin, end, name, dtype, tuple(shape))


def _view_tensor(body: memoryview, place: _TensorPlace, what: str) -> np.ndarray:
    try:
        return np.ndarray(place.shape, place.dtype, body[place.start : place.stop])
    except (ValueError, OverflowError) as error:
        # A zero times a huge axis has no bytes, yet makes no array.
        raise SnapshotError(f"tensor {place.name!r:.60} of {what} is invalid: {error}") from error
