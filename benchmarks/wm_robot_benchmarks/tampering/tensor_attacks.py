"""Tensor attacks: signed tensor files with false headers, and numbers that are not finite."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

from wm_robot.sharing.shipment import STATE, WEIGHTS
from wm_robot_benchmarks.tampering.target import AttackTarget, read_state_tensors

PICKLE = b"cposix\nsystem\n(S'id'\ntR."
"""Bytes that would run a command when unpickled."""
ZIP = b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(20) + b"PK\x05\x06" + bytes(18)
MANY = 1_000_000
"""Tensors in one header."""

Header = dict[str, Any]


def make_tensor_file(
    header: Mapping[str, Any] | bytes, body: bytes = b"", claimed_length: int | None = None
) -> bytes:
    """Make a tensor file with this header.

    Args:
        claimed_length: Length that the file states for its header; by default the true one.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if claimed_length is None else claimed_length).to_bytes(8, "little") + text + body


def make_entry(begin: Any = 0, end: Any = 4, dtype: Any = "F32", shape: Any = (1,)) -> Header:
    """Make the header entry of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


FILES: dict[str, Callable[[], bytes]] = {
    "100 MB header": lambda: make_tensor_file(b"{}", claimed_length=100_000_000),
    "endless header": lambda: make_tensor_file(b"{}", claimed_length=(1 << 64) - 1),
    "header longer by one": lambda: make_tensor_file(b"{}", claimed_length=3),
    "no header": lambda: make_tensor_file(b""),
    "no file": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "a list": lambda: make_tensor_file(b"[]"),
    "a number": lambda: make_tensor_file(b"1"),
    "UTF-16": lambda: make_tensor_file('{"x":1}'.encode("utf-16")),
    "deep": lambda: make_tensor_file(b"[" * 500_000),
    "tensor is a list": lambda: make_tensor_file({"x": []}),
    "tensor is nothing": lambda: make_tensor_file({"x": None}),
    "tensor without shape": lambda: make_tensor_file(
        {"x": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)
    ),
    "tensor with more": lambda: make_tensor_file({"x": {**make_entry(), "code": "x"}}, bytes(4)),
    "key twice": lambda: make_tensor_file(
        b'{"x":%b,"x":%b}' % (_encode_json(make_entry()), _encode_json(make_entry(4, 8))), bytes(8)
    ),
    "offsets overlap": lambda: make_tensor_file(
        {"x": make_entry(0, 8, shape=(2,)), "y": make_entry(4, 8)}, bytes(8)
    ),
    "same offsets": lambda: make_tensor_file({"x": make_entry(), "y": make_entry()}, bytes(4)),
    "a hole": lambda: make_tensor_file({"x": make_entry(0, 4), "y": make_entry(8, 12)}, bytes(12)),
    "bytes after": lambda: make_tensor_file({"x": make_entry()}, bytes(8)),
    "beyond the end": lambda: make_tensor_file({"x": make_entry(0, 1 << 30, shape=(1 << 28,))}, bytes(4)),
    "backwards": lambda: make_tensor_file({"x": make_entry(4, 0)}, bytes(4)),
    "negative offset": lambda: make_tensor_file({"x": make_entry(-4, 0)}, bytes(4)),
    "negative shape": lambda: make_tensor_file({"x": make_entry(shape=(-1, -1))}, bytes(4)),
    "fractions": lambda: make_tensor_file({"x": make_entry(0.0, 4.0)}, bytes(4)),
    "true for one": lambda: make_tensor_file({"x": make_entry(False, 4, shape=(True,))}, bytes(4)),
    "huge shape": lambda: make_tensor_file({"x": make_entry(shape=(1 << 40, 1 << 40))}, bytes(4)),
    "shape that wraps": lambda: make_tensor_file({"x": make_entry(0, 0, shape=(1 << 32, 1 << 32))}),
    "nothing times very much": lambda: make_tensor_file({"x": make_entry(0, 0, shape=(0, 1 << 62, 1 << 62))}),
    "numbers too large": lambda: make_tensor_file({"x": make_entry(0, 0, shape=(0, 1 << 70))}),
    "many axes": lambda: make_tensor_file({"x": make_entry(shape=(1,) * 1000)}, bytes(4)),
    "shape is text": lambda: make_tensor_file({"x": make_entry(shape="1")}, bytes(4)),
    "unknown type": lambda: make_tensor_file({"x": make_entry(dtype="O")}, bytes(4)),
    "type is a list": lambda: make_tensor_file({"x": make_entry(dtype=["F32"])}, bytes(4)),
    "many tensors": lambda: make_tensor_file({str(i): make_entry(0, 0, shape=(0,)) for i in range(10_000)}),
    "pickle": lambda: PICKLE,
    "pickle after a header": lambda: make_tensor_file(PICKLE),
    "zip": lambda: ZIP,
    "no tensors": lambda: make_tensor_file({}),
}
"""Invalid tensor files."""


def hostile_state(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with one of `FILES` as the state."""
    return target.make_with_state(FILES[str(rng.choice(list(FILES)))]())


def hostile_weights(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with one of `FILES` as the weights."""
    return target.make_with_weights(FILES[str(rng.choice(list(FILES)))]())


def other_state(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with a valid state file that differs from its manifest: a NaN, another type, shape or name."""
    arrays = dict(read_state_tensors(target.shipment))
    name = str(rng.choice([name for name, value in arrays.items() if value.dtype.kind == "f" and value.size]))
    broken = arrays[name].copy()
    broken.flat[rng.integers(broken.size)] = (np.nan, np.inf, -np.inf)[rng.integers(3)]
    changed: list[dict[str, np.ndarray]] = [
        {name: broken},
        {name: arrays[name].astype(np.float64)},
        {name: arrays[name].reshape(-1)[None, None]},
        {f"{name}.": arrays[name]},
    ]
    return target.make_with_state(save({**arrays, **changed[rng.integers(len(changed))]}))


def nan_state(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with a state that has a NaN, and a matching manifest."""
    return target.make_bundle(target.broken)


def other_weights(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with weights that have a NaN or another name, under the manifest of the genuine ones."""
    value = np.full((2, 2), np.nan, np.float32)
    return target.make_with_weights(save({"x": value, f"y{rng.integers(1 << 30)}": value}))


def a_million_tensors(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with very many tensors in the header of the largest file."""
    entries = (b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(MANY))
    return target.make_with_weights(make_tensor_file(b"{" + b",".join(entries) + b"}"))


def a_million_listed(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with very many tensors in its manifest."""
    tensors: Header = {STATE: {str(i): {} for i in range(MANY)}, WEIGHTS: {}}
    return target.make_bundle(target.parts, tensors=tensors)


def _encode_json(values: Any) -> bytes:
    return json.dumps(values).encode()
