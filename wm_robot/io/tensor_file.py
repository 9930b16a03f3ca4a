"""Tensors from strangers: what the header of a safetensors file says is checked before anything is made of it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.io.strict_json import read_json

LARGEST_HEADER = 1 << 20
"""Bytes."""
MOST_TENSORS, MOST_AXES = 4096, 16
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


class _Place(NamedTuple):
    """Where a tensor lies, as the header has it."""

    begin: int
    end: int
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def read_tensors(content: bytes, what: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, as read-only views of its bytes.

    Args:
        what: The file is, for the error.

    Raises:
        SnapshotError: If the header is too large, names anything twice, or does not say of every byte exactly once
            what it is.
    """
    header, body = _split(content, what)
    values = read_json(header, f"the header of {what}")
    if not isinstance(values, dict) or len(values) > MOST_TENSORS:
        raise SnapshotError(f"the header of {what} is no list of at most {MOST_TENSORS} tensors")
    places = sorted(_place(name, each, what) for name, each in values.items() if name != METADATA)
    covered = 0
    for place in places:
        if place.begin != covered:
            raise SnapshotError(
                f"tensor {place.name!r:.60} of {what} begins at byte {place.begin}; it must at {covered}, "
                "where the one before it ends"
            )
        covered = place.end
    if covered != len(body):
        raise SnapshotError(f"the tensors of {what} end at byte {covered} of {len(body)}")
    return {place.name: _view(body, place, what) for place in places}


def described(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Name → dtype, shape, and whether all its numbers are finite, as plain values."""
    return {
        name: {"dtype": str(value.dtype), "shape": list(value.shape), "finite": is_finite(value)}
        for name, value in tensors.items()
    }


def is_finite(value: np.ndarray) -> bool:
    """Whether no number is NaN or infinite."""
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _split(content: bytes, what: str) -> tuple[bytes, memoryview]:
    length = int.from_bytes(content[:_LENGTH], "little")
    if len(content) < _LENGTH or length > min(LARGEST_HEADER, len(content) - _LENGTH):
        raise SnapshotError(
            f"{what} is no tensor file: it claims a header of {length} bytes, of {len(content)} in all; "
            f"at most {LARGEST_HEADER} are read"
        )
    return content[_LENGTH : _LENGTH + length], memoryview(content)[_LENGTH + length :]


def _place(name: str, said: Any, what: str) -> _Place:
    try:
        (begin, end), shape, dtype = said["data_offsets"], said["shape"], np.dtype(_DTYPES[said["dtype"]])
        numbers = [begin, end, *shape]
        if len(said) != 3 or len(shape) > MOST_AXES or any(type(each) is not int for each in numbers):
            raise ValueError("it must have data_offsets, shape and dtype, and whole numbers in them")
        # Python's numbers: a product that wraps around would make a huge tensor look small.
        if min(numbers) < 0 or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("its shape and its bytes do not agree")
    except (ValueError, TypeError, KeyError) as error:
        raise SnapshotError(f"tensor {name!r:.60} of {what} cannot be: {str(error):.100}") from error
    return _Place(begin, end, name, dtype, tuple(shape))


def _view(body: memoryview, place: _Place, what: str) -> np.ndarray:
    try:
        return np.ndarray(place.shape, place.dtype, body[place.begin : place.end])
    except (ValueError, OverflowError) as error:
        # Nothing times very much is nothing, and no array.
        raise SnapshotError(f"tensor {place.name!r:.60} of {what} cannot be: {error}") from error
