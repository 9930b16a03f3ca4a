"""Signed attacks: hostile names, manifests and files with a trusted signature, as after a mistake or a stolen key."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from wm_robot.sharing.bundle import MAX_MANIFEST_BYTES, make_file_entries, seal_bundle
from wm_robot.sharing.shipment import (
    BASE,
    CALIBRATION,
    EVALUATION,
    MANIFEST,
    README,
    SPEC,
    STATE,
    WEIGHTS,
)
from wm_robot.spec import encode_canonical_json
from wm_robot_benchmarks.tampering.target import AttackTarget

NAMES: tuple[Any, ...] = (
    "../../../etc/passwd",
    "/etc/passwd",
    "C:\\windows\\x",
    f"..\\{STATE}",
    f"./{STATE}",
    f"{STATE}\0",
    f"{STATE}/../../x",
    STATE.upper(),
    STATE.replace("a", "\N{CYRILLIC SMALL LETTER A}"),
    "",
    "..",
    "~/.ssh/authorized_keys",
    "%2e%2e/x",
    "x" * 100_000,
    None,
    7,
    [STATE],
    {"name": STATE},
)
FIELDS: dict[str, tuple[Any, ...]] = {
    "format": (0, 2, True, "1", None),
    "kind": ("base", "", None, 1),
    "product": ("../x", "", "a/b", "x" * 101, ".x", "a\0b", None, 3),
    "sequence": (0, -1, True, 1 << 53, 10**4000, 1001.5, "1001", None, [1001]),
    "base_digest": ("0" * 64, "", None, 0),
    "spec_digest": ("0" * 64, "", None, 0),
    "snapshot": ("0" * 64, "", None, 0),
    "tensors": ({}, [], None, {STATE: {}, WEIGHTS: {}}),
    "files": ([], {}, None, [[]], [None], ["x"] * 10_000, [{}] * 10_000),
    "created": ("", "now", "\x1b[2J", None, 0),
    "code": (None, 1, []),
    "unknown": (1,),
}
"""Invalid values of the fields of a manifest."""
SIZES = (-1, 1.0, True, "1", None, 1 << 40, 1 << 70, 0)
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "a key twice": lambda manifest: (
        b'{"base_digest":"","base_digest":""' + manifest[1:].replace(b'"base', b',"base', 1)
    ),
    "a space": lambda manifest: manifest.replace(b":", b": ", 1),
    "a line": lambda manifest: manifest + b"\n",
    "an escape": lambda manifest: manifest.replace(b'"kind"', b'"\\u006bind"'),
    "a mark": lambda manifest: b"\xef\xbb\xbf" + manifest,
    "UTF-16": lambda manifest: manifest.decode().encode("utf-16"),
    "a NaN": lambda manifest: manifest.replace(b'"sequence":1001', b'"sequence":NaN'),
    "infinity": lambda manifest: manifest.replace(b'"sequence":1001', b'"sequence":1e999'),
    "an exponent": lambda manifest: manifest.replace(b'"sequence":1001', b'"sequence":1001e0'),
    "a huge number": lambda manifest: manifest.replace(b'"sequence":1001', b'"sequence":' + b"9" * 500_000),
    "half": lambda manifest: manifest[: len(manifest) // 2],
    "no object": lambda manifest: b"[" + manifest + b"]",
    "a string": lambda manifest: b'"' + b"x" * 1000 + b'"',
    "null": lambda manifest: b"null",
    "no text": lambda manifest: b"\xff" * 1000,
    "deep": lambda manifest: b"[" * (MAX_MANIFEST_BYTES // 2) + b"]" * (MAX_MANIFEST_BYTES // 2),
    "deep objects": lambda manifest: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "wide": lambda manifest: b"[" + b"[]," * (MAX_MANIFEST_BYTES // 3 - 2) + b"[]]",
    "many keys": lambda manifest: encode_canonical_json({str(i): 0 for i in range(80_000)}),
    "too long": lambda manifest: manifest + b" " * MAX_MANIFEST_BYTES,
}
"""Invalid spellings of a manifest."""
CONTENTS: tuple[tuple[str, bytes], ...] = (
    (README, b"\x1b]0;owned\x07\x1b[2J"),
    (README, b"\xff\xfe\x00"),
    (README, b"# x\n" * (1 << 17)),
    (BASE, b""),
    (BASE, b"{}"),
    (BASE, b"[" * 100_000),
    (BASE, b'{"format":1,"format":1}'),
    (CALIBRATION, b"{}"),
    (CALIBRATION, b"[]"),
    (CALIBRATION, b'{"base":"' + b"0" * 64 + b'"}'),
    (EVALUATION, b"{}"),
    (EVALUATION, b"[1]"),
    (EVALUATION, b'[{"bench":"x"}]'),
    (EVALUATION, b"[[]]"),
    (EVALUATION, b"[" * 100_000),
    (EVALUATION, b'["bench when commit figures"]'),
    (MANIFEST, b"{}"),
    (MANIFEST, b"[]"),
    (MANIFEST, b"[" * 100_000),
    (MANIFEST, b"null"),
    (SPEC, b"{}"),
    (SPEC, b"[]"),
    (SPEC, b'{"joints":[1]}'),
    (SPEC, b'{"joints":{"name":1}}'),
    (SPEC, b'{"tasks":[]}'),
    (SPEC, b'{"joints":[],"name":"x"}'),
    (SPEC, b"[" * 100_000),
)
"""Files whose content does not match their name."""


def hostile_name(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with a file whose name points elsewhere or is invalid."""
    files = make_file_entries(target.parts)
    files[rng.integers(0, len(files))]["name"] = NAMES[rng.integers(0, len(NAMES))]
    return target.make_bundle(target.parts, files=files)


def file_twice(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with an extra file, under an existing or a new name."""
    parts, files = list(target.parts.values()), make_file_entries(target.parts)
    chosen = int(rng.integers(0, len(files)))
    files.append(files[chosen] | ({} if rng.random() < 0.5 else {"name": f"x{rng.integers(1 << 30)}.py"}))
    manifest = encode_canonical_json(target.make_manifest(target.parts, files=files))
    return seal_bundle(manifest, [*parts, parts[chosen]], target.owner)


def file_missing(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with a missing file."""
    gone = str(rng.choice([name for name in target.parts if name != CALIBRATION]))
    left = {name: content for name, content in target.parts.items() if name != gone}
    return seal_bundle(
        encode_canonical_json(target.make_manifest(target.parts, files=make_file_entries(left))),
        list(left.values()),
        target.owner,
    )


def file_order(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with all files in another order."""
    names, order = list(target.parts), list(target.parts)
    while order == names:
        order = [str(name) for name in rng.permutation(names)]
    return target.make_bundle({name: target.parts[name] for name in order})


def hostile_field(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with an invalid or missing field in the manifest."""
    name = str(rng.choice(list(FIELDS)))
    values = target.make_manifest(target.parts)
    if name in values and rng.random() < 0.1:
        del values[name]
    else:
        values[name] = FIELDS[name][rng.integers(0, len(FIELDS[name]))]
    return target.make_with_manifest(encode_canonical_json(values))


def hostile_size(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with an impossible size or digest of a file."""
    files = make_file_entries(target.parts)
    chosen = files[rng.integers(0, len(files))]
    if rng.random() < 0.3:
        chosen["sha256"] = (None, "", 0, "0" * 64, chosen["sha256"].upper())[rng.integers(0, 5)]
    else:
        chosen["size"] = SIZES[rng.integers(0, len(SIZES))]
    return target.make_bundle(target.parts, files=files)


def hostile_spelling(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle whose manifest is not in canonical form."""
    spell = SPELLINGS[str(rng.choice(list(SPELLINGS)))]
    return target.make_with_manifest(spell(encode_canonical_json(target.make_manifest(target.parts))))


def hostile_content(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with a file whose content does not match its name."""
    name, content = CONTENTS[rng.integers(0, len(CONTENTS))]
    return target.make_bundle({**target.parts, name: content})


def hostile_snapshot(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with a state manifest in which one value has another type or points elsewhere."""
    values = json.loads(target.parts[MANIFEST])
    name = str(rng.choice(list(values)))
    others: list[Any] = [None, -1, 1e300, "", "../x", [], {}, [[]], {"x": None}, "0" * 64, ["../x"]]
    # Free text, and fields for human readers, may have any value of their type.
    free = {"note": (str,), "code": (str,), "created": (str,), "origin": (dict,)}.get(name, ())
    others = [each for each in others if not (free and isinstance(each, free)) and each != values[name]]
    values[name] = others[rng.integers(0, len(others))]
    return target.make_bundle({**target.parts, MANIFEST: encode_canonical_json(values)})


def another_robot(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with the spec of a faster robot than that of the lifetime."""
    values = json.loads(target.parts[SPEC])
    values["joints"][0]["velocity"] = float(rng.uniform(2, 100))
    return target.make_bundle({**target.parts, SPEC: encode_canonical_json(values)})


def another_base(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a bundle with another base than that of the lifetime."""
    known = json.loads(target.parts[BASE])
    known["config"]["width"] = int(rng.integers(1, 1 << 30))
    return target.make_bundle({**target.parts, BASE: json.dumps(known).encode()})
