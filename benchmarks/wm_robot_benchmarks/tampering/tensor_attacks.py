"""Tensor attacks: signed tensor files with false headers, and numbers that are not finite."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

from wm_robot.sharing.shipment import STATE, WEIGHTS
from wm_robot_benchmarks.tampering.target import Target, tensors_of

PICKLE = b"cposix\nsystem\n(S'id'\ntR."
"""Bytes that would run a command when unpickled."""
ZIP = b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(20) + b"PK\x05\x06" + bytes(18)
MANY = 1_000_000
"""Tensors in one header."""

Header = dict[str, Any]


def file_of(header: Mapping[str, Any] | bytes, body: bytes = b"", claimed: int | None = None) -> bytes:
    """Make a tensor file with this header.

    Args:
        claimed: Length that the file states for its header; by default the true one.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if claimed is None else claimed).to_bytes(8, "little") + text + body


def tensor(begin: Any = 0, end: Any = 4, dtype: Any = "F32", shape: Any = (1,)) -> Header:
    """Make the header entry of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


FILES: dict[str, Callable[[], bytes]] = {
    "100 MB header": lambda: file_of(b"{}", claimed=100_000_000),
    "endless header": lambda: file_of(b"{}", claimed=(1 << 64) - 1),
    "header longer by one": lambda: file_of(b"{}", claimed=3),
    "no header": lambda: file_of(b""),
    "no file": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "a list": lambda: file_of(b"[]"),
    "a number": lambda: file_of(b"1"),
    "UTF-16": lambda: file_of('{"x":1}'.encode("utf-16")),
    "deep": lambda: file_of(b"[" * 500_000),
    "tensor is a list": lambda: file_of({"x": []}),
    "tensor is nothing": lambda: file_of({"x": None}),
    "tensor without shape": lambda: file_of({"x": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "tensor with more": lambda: file_of({"x": {**tensor(), "code": "x"}}, bytes(4)),
    "key twice": lambda: file_of(b'{"x":%b,"x":%b}' % (_text(tensor()), _text(tensor(4, 8))), bytes(8)),
    "offsets overlap": lambda: file_of({"x": tensor(0, 8, shape=(2,)), "y": tensor(4, 8)}, bytes(8)),
    "same offsets": lambda: file_of({"x": tensor(), "y": tensor()}, bytes(4)),
    "a hole": lambda: file_of({"x": tensor(0, 4), "y": tensor(8, 12)}, bytes(12)),
    "bytes after": lambda: file_of({"x": tensor()}, bytes(8)),
    "beyond the end": lambda: file_of({"x": tensor(0, 1 << 30, shape=(1 << 28,))}, bytes(4)),
    "backwards": lambda: file_of({"x": tensor(4, 0)}, bytes(4)),
    "negative offset": lambda: file_of({"x": tensor(-4, 0)}, bytes(4)),
    "negative shape": lambda: file_of({"x": tensor(shape=(-1, -1))}, bytes(4)),
    "fractions": lambda: file_of({"x": tensor(0.0, 4.0)}, bytes(4)),
    "true for one": lambda: file_of({"x": tensor(False, 4, shape=(True,))}, bytes(4)),
    "huge shape": lambda: file_of({"x": tensor(shape=(1 << 40, 1 << 40))}, bytes(4)),
    "shape that wraps": lambda: file_of({"x": tensor(0, 0, shape=(1 << 32, 1 << 32))}),
    "nothing times very much": lambda: file_of({"x": tensor(0, 0, shape=(0, 1 << 62, 1 << 62))}),
    "numbers too large": lambda: file_of({"x": tensor(0, 0, shape=(0, 1 << 70))}),
    "many axes": lambda: file_of({"x": tensor(shape=(1,) * 1000)}, bytes(4)),
    "shape is text": lambda: file_of({"x": tensor(shape="1")}, bytes(4)),
    "unknown type": lambda: file_of({"x": tensor(dtype="O")}, bytes(4)),
    "type is a list": lambda: file_of({"x": tensor(dtype=["F32"])}, bytes(4)),
    "many tensors": lambda: file_of({str(i): tensor(0, 0, shape=(0,)) for i in range(10_000)}),
    "pickle": lambda: PICKLE,
    "pickle after a header": lambda: file_of(PICKLE),
    "zip": lambda: ZIP,
    "no tensors": lambda: file_of({}),
}
"""Invalid tensor files."""


def hostile_state(target: Target, rng: np.random.Generator) -> bytes:
    """Return a bundle with one of `FILES` as the state."""
    return target.with_state(FILES[str(rng.choice(list(FILES)))]())


def hostile_weights(target: Target, rng: np.random.Generator) -> bytes:
    """Return a bundle with one of `FILES` as the weights."""
    return target.with_weights(FILES[str(rng.choice(list(FILES)))]())


def other_state(target: Target, rng: np.random.Generator) -> bytes:
    """Return a bundle with a valid state file that differs from its manifest: a NaN, another type, shape or name."""
    arrays = dict(tensors_of(target.shipment))
    name = str(rng.choice([name for name, value in arrays.items() if value.dtype.kind == "f" and value.size]))
    broken = arrays[name].copy()
    broken.flat[rng.integers(broken.size)] = (np.nan, np.inf, -np.inf)[rng.integers(3)]
    changed: list[dict[str, np.ndarray]] = [
        {name: broken},
        {name: arrays[name].astype(np.float64)},
        {name: arrays[name].reshape(-1)[None, None]},
        {f"{name}.": arrays[name]},
    ]
    return target.with_state(save({**arrays, **changed[rng.integers(len(changed))]}))


def unfinished_state(target: Target, rng: np.random.Generator) -> bytes:
    """Return a bundle with a state that has a NaN, and a matching manifest."""
    return target.bundle(target.broken)


def other_weights(target: Target, rng: np.random.Generator) -> bytes:
    """Return a bundle with weights that have a NaN or another name, under the manifest of the genuine ones."""
    value = np.full((2, 2), np.nan, np.float32)
    return target.with_weights(save({"x": value, f"y{rng.integers(1 << 30)}": value}))


def a_million_tensors(target: Target, rng: np.random.Generator) -> bytes:
    """Return a bundle with very many tensors in the header of the largest file."""
    entries = (b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(MANY))
    return target.with_weights(file_of(b"{" + b",".join(entries) + b"}"))


def a_million_listed(target: Target, rng: np.random.Generator) -> bytes:
    """Return a bundle with very many tensors in its manifest."""
    tensors: Header = {STATE: {str(i): {} for i in range(MANY)}, WEIGHTS: {}}
    return target.bundle(target.parts, tensors=tensors)


def _text(values: Any) -> bytes:
    return json.dumps(values).encode()
