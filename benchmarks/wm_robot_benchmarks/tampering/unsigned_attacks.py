"""Unsigned attacks: changes of a bundle without a trusted key. Each attack returns the bytes of a file."""

from collections.abc import Callable

import numpy as np

from wm_robot.io.durable import compute_digest
from wm_robot.sharing.bundle import HEADER, SIGNATURE_DOMAIN
from wm_robot.sharing.shipment import MANIFEST, STATE
from wm_robot_benchmarks.tampering.target import SEEN, AttackTarget, split_bundle

SIGNED_INSTEAD: dict[str, Callable[[AttackTarget, bytes], bytes]] = {
    "nothing": lambda target, manifest: bytes(64),
    "the newest": lambda target, manifest: HEADER.unpack(split_bundle(target.newest)[0])[2],
    "without a domain": lambda target, manifest: target.owner.sign(manifest),
    "without an id": lambda target, manifest: target.owner.sign(SIGNATURE_DOMAIN + manifest),
    "its digest": lambda target, manifest: target.owner.sign(compute_digest(manifest).encode()),
}
"""Invalid signatures of a newer manifest."""


def flip_bits(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Flip one to eight bits, half of the time only in header and manifest."""
    content = bytearray(target.newest)
    end = len(content) - (len(split_bundle(target.newest)[2]) if rng.random() < 0.5 else 0)
    for bit in {int(each) for each in rng.integers(0, 8 * end, rng.integers(1, 9))}:
        content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def truncate_bundle(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Truncate at a random byte or at the end of a part."""
    sizes = [0, 8, 32, 64, 4, len(split_bundle(target.newest)[1]), *map(len, target.parts.values())]
    anywhere, ends = int(rng.integers(0, len(target.newest))), np.cumsum(sizes)[:-1]
    return target.newest[: int(rng.choice(ends)) if rng.random() < 0.5 else anywhere]


def append_bytes(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Append bytes after the end."""
    more = (b"\0", b"\n", rng.bytes(4096), target.newest, target.older, bytes(int(rng.integers(1, 1 << 20))))
    return target.newest + more[rng.integers(0, len(more))]


def mix_files(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Combine the manifest of one valid bundle with the files of another."""
    header, manifest, _ = split_bundle(target.newest)
    return header + manifest + split_bundle(target.older)[2]


def mix_manifest(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Combine the signature of one valid bundle with the manifest of another."""
    header, _, files = split_bundle(target.newest)
    manifest = split_bundle(target.older)[1]
    return _with_signature(HEADER.unpack(header)[2], header, manifest) + manifest + files


def swap_file(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Replace one file by that of another valid bundle."""
    header, manifest, _ = split_bundle(target.newest)
    name = (STATE, MANIFEST)[rng.integers(0, 2)]
    return header + manifest + b"".join({**target.parts, name: target.other[name]}.values())


def swap_order(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Swap two files."""
    header, manifest, _ = split_bundle(target.newest)
    files = list(target.parts.values())
    one, two = rng.choice(len(files), 2, replace=False)
    files[one], files[two] = files[two], files[one]
    return header + manifest + b"".join(files)


def swap_bytes(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Swap two pieces of equal length."""
    content, length = bytearray(target.newest), int(rng.integers(1, 64))
    while content == target.newest:
        one, two = (int(each) for each in rng.integers(0, len(content) - length, 2))
        piece = content[one : one + length]
        content[one : one + length] = content[two : two + length]
        content[two : two + length] = piece
    return bytes(content)


def replay_version(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return an older version that was valid before."""
    if rng.random() < 0.1:
        return target.older
    return target.make_bundle(target.other, sequence=int(rng.integers(1, SEEN)))


def reuse_number(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return another version with the accepted sequence number."""
    return target.make_bundle(target.other, sequence=SEEN, code=f"0.{rng.integers(1 << 30)}")


def sign_by(owner: str, target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a newer version, signed by another key."""
    return target.make_bundle(
        target.other, getattr(target, owner), sequence=SEEN + int(rng.integers(1, 1 << 40))
    )


def sign_under_another_id(owner: str, target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a newer version, signed by another key under the id of the trusted key."""
    header, manifest, files = split_bundle(sign_by(owner, target, rng))
    magic, _, signature, length = HEADER.unpack(header)
    return HEADER.pack(magic, bytes.fromhex(target.owner.id), signature, length) + manifest + files


def sign_instead(content: str, target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a newer version with the signature of other bytes; see `SIGNED_INSTEAD`."""
    header, manifest, files = split_bundle(
        target.make_bundle(target.other, sequence=SEEN + int(rng.integers(1, 1 << 40)))
    )
    return _with_signature(SIGNED_INSTEAD[content](target, manifest), header, manifest) + manifest + files


def sign_by_chance(target: AttackTarget, rng: np.random.Generator) -> bytes:
    """Return a newer version with a random signature."""
    header, manifest, files = split_bundle(target.make_bundle(target.other))
    return _with_signature(rng.bytes(64), header, manifest) + manifest + files


def _with_signature(signature: bytes, header: bytes, manifest: bytes) -> bytes:
    magic, identity, _, _ = HEADER.unpack(header)
    return HEADER.pack(magic, identity, signature, len(manifest))
