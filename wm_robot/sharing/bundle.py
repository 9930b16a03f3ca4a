"""Signed bundle: one file with a lifetime state, its base, robot and evaluation. Verified before it is parsed.

::

    8 bytes      magic, with the format's number
    32 bytes     id of the key: SHA-256 of the public key
    64 bytes     Ed25519 signature of the domain, the id and the manifest
    4 bytes      length of the manifest, big-endian
    manifest     canonical JSON: product, sequence, digests, and name, size and SHA-256 of each file
    files        back to back, in the manifest's order, up to the end

It contains no paths: the names are a fixed set. Of unsigned bytes, at most the header and one manifest are ever held
in memory, and none is parsed.
"""

import errno
import os
import re
import stat
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wm_robot import __version__
from wm_robot.errors import SnapshotError
from wm_robot.io.durable import compute_digest, write_file
from wm_robot.io.strict_json import parse_canonical_json
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.rollback_counters import CounterMark
from wm_robot.sharing.shipment import MAX_PART_BYTES, Shipment, check_part_names
from wm_robot.sharing.signature import SigningKey, is_signed
from wm_robot.spec import encode_canonical_json
from wm_robot.store.names import NAME_PATTERN, check_name

FORMAT, KIND = 1, "bundle"
MAGIC = b"wmrobot" + bytes([FORMAT])
SIGNATURE_DOMAIN = b"wm_robot bundle 1\x00"
"""Prefix of the signed message, so that no signature made for another purpose fits a bundle."""
MAX_MANIFEST_BYTES = 1 << 20
HEADER = struct.Struct(">8s32s64sI")
MAX_BUNDLE_BYTES = HEADER.size + MAX_MANIFEST_BYTES + sum(MAX_PART_BYTES.values())
"""Bytes; a larger file is refused before it is read."""
MAX_SEQUENCE = 1 << 53
_FIELD_TYPES = {
    "format": int,
    "kind": str,
    "product": str,
    "sequence": int,
    "base_digest": str,
    "spec_digest": str,
    "snapshot": str,
    "tensors": dict,
    "files": list,
    "created": str,
    "code": str,
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Verified bundle: its header data and its shipment."""

    digest: str
    """Of the manifest."""
    signer: str
    """Id of the key."""
    product: str
    sequence: int
    """Larger than that of every earlier bundle of this product."""
    created: str
    """Wall clock of the signer."""
    shipment: Shipment = field(repr=False)

    @property
    def counter_mark(self) -> CounterMark:
        """Entry for the rollback counters of a keyring."""
        return CounterMark(self.sequence, self.digest)


def write_bundle(path: Path, shipment: Shipment, *, product: str, sequence: int, key: SigningKey) -> str:
    """Write a bundle, whole or not at all, and return the digest of its manifest.

    Args:
        product: Name under which receivers count its versions.
        sequence: Larger than any before; see `RollbackCounters.take_next`.
    """
    values = describe_bundle(shipment, product=check_name(product), sequence=sequence)
    manifest = encode_canonical_json(values)
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise SnapshotError(f"the manifest has {len(manifest)} bytes; at most {MAX_MANIFEST_BYTES} are read")
    write_file(path, seal_bundle(manifest, list(shipment.parts.values()), key))
    return compute_digest(manifest)


def describe_bundle(shipment: Shipment, *, product: str, sequence: int) -> dict[str, Any]:
    """Return the manifest of a bundle, as plain values."""
    return {
        "format": FORMAT,
        "kind": KIND,
        "product": product,
        "sequence": sequence,
        "base_digest": shipment.base["digest"],
        "spec_digest": shipment.spec.compute_digest(),
        "snapshot": shipment.snapshot.digest,
        "tensors": shipment.tensors,
        "files": make_file_entries(shipment.parts),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "code": __version__,
    }


def make_file_entries(parts: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return the entries of files in a manifest."""
    return [
        {"name": name, "size": len(content), "sha256": compute_digest(content)}
        for name, content in parts.items()
    ]


def seal_bundle(manifest: bytes, files: Sequence[bytes], key: SigningKey) -> bytes:
    """Return the bytes of a bundle. Nothing is checked here; `read_bundle` refuses invalid content."""
    identity = bytes.fromhex(key.id)
    signature = key.sign(SIGNATURE_DOMAIN + identity + manifest)
    return b"".join((HEADER.pack(MAGIC, identity, signature, len(manifest)), manifest, *files))


def read_bundle(path: Path, keyring: Keyring, *, allow_rollback: bool = False) -> Bundle:
    """Read a bundle that a trusted key signed. Nothing is written; the caller records its mark in
    `Keyring.received_counters`.

    Args:
        allow_rollback: Accept one that is older than the newest received.

    Raises:
        SnapshotError: If it is no bundle, not signed by a trusted key, older than the newest received, damaged, or
            different from its manifest.
    """
    where = f"bundle {path}"
    try:
        with _open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BUNDLE_BYTES:
                raise SnapshotError(f"{where} has {size} bytes; at most {MAX_BUNDLE_BYTES} are read")
            signer, manifest = _read_signed_manifest(file, keyring, where)
            values = _check_manifest(manifest, where)
            mark = CounterMark(values["sequence"], compute_digest(manifest))
            if not allow_rollback:
                keyring.received_counters.check_not_older(signer, values["product"], mark)
            parts = _read_files(file, values["files"], size - HEADER.size - len(manifest), where)
    except OSError as error:
        raise SnapshotError(f"{where} cannot be read: {error}") from error
    shipment = Shipment.parse(parts, where=where)
    found = {
        "base_digest": shipment.base["digest"],
        "spec_digest": shipment.spec.compute_digest(),
        "snapshot": shipment.snapshot.digest,
        "tensors": shipment.tensors,
    }
    for name, value in found.items():
        if values[name] != value:
            raise SnapshotError(f"{where} has another {name} than its manifest lists")
    return Bundle(
        digest=mark.digest,
        signer=signer,
        product=values["product"],
        sequence=mark.sequence,
        created=values["created"],
        shipment=shipment,
    )


def _open_file(path: Path) -> BinaryIO:
    try:
        # Without waiting, since a device or pipe may never answer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SnapshotError(f"bundle {path} is a link. Name the file itself") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise SnapshotError(f"bundle {path} is no file")
    return open(handle, "rb")


def _read_signed_manifest(file: BinaryIO, keyring: Keyring, where: str) -> tuple[str, bytes]:
    """Return the id of the key and the bytes that it signed."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or header[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise SnapshotError(f"{where} is no bundle. To make one, see: wm-robot state ship --help")
    magic, identity, signature, length = HEADER.unpack(header)
    if magic != MAGIC:
        raise SnapshotError(f"{where} has format {magic[-1]}, this version reads {FORMAT}")
    if not 0 < length <= MAX_MANIFEST_BYTES:
        raise SnapshotError(
            f"{where} claims a manifest of {length} bytes; at most {MAX_MANIFEST_BYTES} are read"
        )
    try:
        public = keyring.find_trusted_key(identity.hex())
    except SnapshotError as error:
        raise SnapshotError(f"{where}: {error}") from error
    manifest = file.read(length)
    if len(manifest) != length or not is_signed(SIGNATURE_DOMAIN + identity + manifest, signature, public):
        raise SnapshotError(f"{where} is not what key {identity.hex()[:12]} signed. Fetch it again")
    return identity.hex(), manifest


def _check_manifest(manifest: bytes, where: str) -> dict[str, Any]:
    """Return the values of a signed manifest, checked, since a trusted signer may still make mistakes."""
    values = parse_canonical_json(manifest, f"the manifest of {where}")
    if not isinstance(values, dict) or {k: type(v) for k, v in values.items()} != _FIELD_TYPES:
        raise SnapshotError(f"the manifest of {where} must have exactly the fields {', '.join(_FIELD_TYPES)}")
    if (values["format"], values["kind"]) != (FORMAT, KIND):
        raise SnapshotError(f"{where} is a {values['kind']!r:.40} of format {values['format']!r:.40}")
    if not NAME_PATTERN.fullmatch(values["product"]) or not _TIME.fullmatch(values["created"]):
        raise SnapshotError(f"the manifest of {where} has an invalid product name or time of signature")
    if not 0 < values["sequence"] < MAX_SEQUENCE:
        raise SnapshotError(
            f"the manifest of {where} has sequence {values['sequence']!r:.40}; it must be at least 1"
        )
    return values


def _read_files(
    file: BinaryIO, manifest_entries: Sequence[Any], num_bytes: int, where: str
) -> dict[str, bytes]:
    """Return the files, after a check that all sizes are right and add up to the remaining bytes."""
    entries = [
        each
        for each in manifest_entries
        if isinstance(each, dict) and each.keys() == {"name", "size", "sha256"}
    ]
    check_part_names([str(each["name"])[:100] for each in entries], where)
    for each in entries:
        if type(each["size"]) is not int or not 0 <= each["size"] <= MAX_PART_BYTES[each["name"]]:
            raise SnapshotError(
                f"{each['name']} of {where} has size {each['size']!r:.40}; it must be 0 to "
                f"{MAX_PART_BYTES[each['name']]}"
            )
    if len(entries) != len(manifest_entries) or sum(each["size"] for each in entries) != num_bytes:
        raise SnapshotError(
            f"{where} is damaged: it is longer or shorter than its manifest lists. Fetch it again"
        )
    parts = {}
    for each in entries:
        content = file.read(each["size"])
        if compute_digest(content) != each["sha256"]:
            raise SnapshotError(
                f"{each['name']} of {where} is damaged: its SHA-256 is not that of the manifest. Fetch it again"
            )
        parts[each["name"]] = content
    return parts
