"""Attack target: a keyring that has accepted one product's newest bundle."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from wm_robot.io.base_file import compute_base_digest
from wm_robot.io.durable import compute_digest
from wm_robot.io.tensor_file import describe_tensors, parse_tensors
from wm_robot.sharing.bundle import HEADER, describe_bundle, make_file_entries, read_bundle, seal_bundle
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.shipment import BASE, CALIBRATION, MANIFEST, STATE, WEIGHTS, Shipment
from wm_robot.sharing.signature import SigningKey
from wm_robot.spec import encode_canonical_json

PRODUCT, SEEN = "life", 1000
"""Product, and its last accepted sequence number."""

Parts = Mapping[str, bytes]


class AttackTarget:
    """Attack target: a keyring, its keys, and all information about its bundles that an attacker may have.

    `genuine` is the path of the accepted bundle, `path` that of the attacks.
    """

    def __init__(self, shipment: Shipment, folder: Path):
        self.folder, self.shipment, self.parts = folder, shipment, shipment.parts
        self.ring = Keyring(folder / "keys")
        self.owner, self.friend = self.ring.create_key("owner"), self.ring.create_key("friend")
        self.stranger, self.expired = SigningKey.generate(), SigningKey.generate()
        self.ring.trust_key("expired", self.expired.public_key, expires_at=1.0)
        self.other = change_numbers(shipment, lambda value: value + value.dtype.type(1))
        self.broken = change_numbers(
            shipment, lambda value: value * np.nan if value.dtype.kind == "f" else value
        )
        self.newest = self.make_bundle(self.parts, sequence=SEEN)
        self.older = self.make_bundle(self.other, sequence=SEEN - 1)
        self.genuine, self.path = folder / "genuine", folder / "attack"
        self.genuine.write_bytes(self.newest)
        taken = read_bundle(self.genuine, self.ring)
        self.ring.received_counters.record(taken.signer, taken.product, taken.counter_mark)

    def make_manifest(self, parts: Parts, **changes: Any) -> dict[str, Any]:
        """Return the manifest of these files; by default newer than the accepted one."""
        known = describe_bundle(self.shipment, product=PRODUCT, sequence=SEEN + 1)
        return {
            **known,
            "files": make_file_entries(parts),
            "snapshot": compute_digest(parts[MANIFEST]),
            **changes,
        }

    def make_bundle(self, parts: Parts, key: SigningKey | None = None, **changes: Any) -> bytes:
        """Return a bundle of these files, signed without checks."""
        return seal_bundle(
            encode_canonical_json(self.make_manifest(parts, **changes)),
            list(parts.values()),
            key or self.owner,
        )

    def make_with_manifest(self, manifest: bytes) -> bytes:
        """Return the genuine files with this manifest, signed."""
        return seal_bundle(manifest, list(self.parts.values()), self.owner)

    def make_with_state(self, state: bytes) -> bytes:
        """Return a bundle with another state file and matching digests, signed."""
        snapshot = replace(
            self.shipment.snapshot, object=compute_digest(state), size=len(state)
        ).with_digest()
        return self.make_bundle({**self.parts, MANIFEST: snapshot.encode(), STATE: state})

    def make_with_weights(self, weights: bytes) -> bytes:
        """Return a bundle with other weights and matching digests, signed."""
        known = dict(self.shipment.base, weights_sha256=compute_digest(weights))
        known["digest"] = compute_base_digest(known["config"], known["weights_sha256"])
        snapshot = replace(self.shipment.snapshot, base_digest=known["digest"]).with_digest()
        parts = {
            **self.parts,
            BASE: json.dumps(known).encode(),
            MANIFEST: snapshot.encode(),
            WEIGHTS: weights,
        }
        if CALIBRATION in parts:
            calibration = json.loads(parts[CALIBRATION]) | {"base": known["digest"]}
            parts[CALIBRATION] = json.dumps(calibration).encode()
        return self.make_bundle(parts, base_digest=known["digest"])


def change_numbers(shipment: Shipment, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, bytes]:
    """Return the files of the same lifetime with other numbers in its state and a matching manifest."""
    arrays = {name: change(value).astype(value.dtype) for name, value in read_state_tensors(shipment).items()}
    state = save(arrays)
    tensors = {
        name: {
            "dtype": each["dtype"],
            "shape": each["shape"],
            "sha256": compute_digest(arrays[name].tobytes()),
        }
        for name, each in describe_tensors(arrays).items()
    }
    snapshot = replace(
        shipment.snapshot, object=compute_digest(state), size=len(state), tensors=tensors
    ).with_digest()
    return {**shipment.parts, MANIFEST: snapshot.encode(), STATE: state}


def read_state_tensors(shipment: Shipment) -> dict[str, np.ndarray]:
    """Return the state tensors of a shipment."""
    return parse_tensors(shipment.parts[STATE], STATE)


def split_bundle(bundle: bytes) -> tuple[bytes, bytes, bytes]:
    """Split a bundle into header, manifest and files."""
    end = HEADER.size + HEADER.unpack_from(bundle)[3]
    return bundle[: HEADER.size], bundle[HEADER.size : end], bundle[end:]
