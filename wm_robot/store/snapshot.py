"""Snapshot: the manifest of one saved lifetime state."""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wm_robot import __version__
from wm_robot.errors import SnapshotError
from wm_robot.io.durable import compute_digest
from wm_robot.spec import encode_canonical_json

FORMAT, KIND = 3, "lifetime-state"
SHA256 = re.compile("[0-9a-f]{64}")

StateArrays = Mapping[str, np.ndarray]
"""Name → array of a lifetime state."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Saved lifetime state, as its manifest describes it."""

    digest: str
    """Of the manifest; it is the snapshot's name."""
    parents: tuple[str, ...]
    """Snapshots from which it continues; none for an initial state, several for a pooled state."""
    base_digest: str
    spec_digest: str
    object: str
    size: int
    tensors: Mapping[str, Any]
    """Name → dtype, shape and SHA-256."""
    steps: int
    sequence: int
    """Larger than that of every parent."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    code: str = __version__
    created: str = ""
    """Wall clock, for display; nothing depends on it."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What it was made from, other than its robot's own experience. An imported root names the snapshot in the other
    store, its parents, and the data that came with it; a migrated one the snapshot of the earlier base, the
    recordings, and what was lost; a snapshot that assimilated recordings names them as `assimilated`."""

    def encode(self) -> bytes:
        """Return the manifest's bytes: equal snapshots have equal ones."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "digest"}
        return encode_canonical_json(
            values
            | {"format": FORMAT, "kind": KIND, "parents": list(self.parents), "metrics": dict(self.metrics)}
        )

    def with_digest(self) -> "Snapshot":
        """Return a copy with the digest of its manifest."""
        return replace(self, digest=compute_digest(self.encode()))

    def to_imported_root(self, **origin: Any) -> "Snapshot":
        """Return the same state as the root of a line here; its ancestors stay in the other store.

        Args:
            origin: Data to record with it, in addition to its digest and parents in the other store.
        """
        there = {"snapshot": self.digest, "parents": list(self.parents)}
        before = {"origin": dict(self.origin)} if self.origin else {}
        return replace(self, parents=(), origin={**origin, **there, **before}).with_digest()

    @classmethod
    def parse(cls, name: str, content: bytes) -> "Snapshot":
        """Parse a manifest.

        Raises:
            SnapshotError: If it is damaged, or of another format or kind.
        """
        if compute_digest(content) != name:
            raise SnapshotError(f"manifest {name[:12]} is damaged: its SHA-256 is not its name")
        try:
            values = json.loads(content)
            version, kind = values.pop("format"), values.pop("kind")
            if (version, kind) != (FORMAT, KIND):
                raise SnapshotError(
                    f"manifest {name[:12]} is a {kind!r} of format {version}; this version reads a {KIND!r} of "
                    f"format {FORMAT}. Use the version that wrote it"
                )
            found = cls(**{**values, "digest": name, "parents": tuple(values["parents"])})
            found._check_types()
            if not all(SHA256.fullmatch(each) for each in (found.object, *found.parents)):
                raise SnapshotError(f"manifest {name[:12]} names what is no SHA-256")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SnapshotError(f"manifest {name[:12]} is no manifest: {error}") from error
        return found

    def _check_types(self) -> None:
        for kind, names in _FIELD_TYPES.items():
            for name in names:
                if not isinstance(value := getattr(self, name), kind):
                    raise TypeError(f"{name} is {value!r:.60}; it must be of type {kind.__name__}")
        for tensor in self.tensors.values():
            tensor["dtype"], tensor["shape"], tensor["sha256"]
        if min(self.size, self.steps, self.sequence) < 0:
            raise ValueError(f"size, steps and sequence are {self.size}, {self.steps} and {self.sequence}")
        if not all(math.isfinite(value) for value in self.metrics.values()):
            raise ValueError("a metric is not finite")


_FIELD_TYPES: dict[type, tuple[str, ...]] = {
    int: ("size", "steps", "sequence"),
    str: ("base_digest", "spec_digest", "object", "note", "code", "created"),
    Mapping: ("tensors", "metrics", "origin"),
}


def create_snapshot(state: StateArrays, content: bytes, **fields: Any) -> Snapshot:
    """Return the manifest of a state that was not saved yet.

    Args:
        content: Of the tensors' file.
        fields: Parents, digests, sequence, metrics, note and origin of the `Snapshot`.

    Raises:
        SnapshotError: If a metric is not finite.
    """
    snapshot = Snapshot(
        digest="",
        object=compute_digest(content),
        size=len(content),
        tensors={name: _describe_tensor(value) for name, value in sorted(state.items())},
        steps=int(state["step"].max()) if "step" in state else 0,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **fields,
    )
    if any(not math.isfinite(value) for value in snapshot.metrics.values()):
        raise SnapshotError(f"metrics are {dict(snapshot.metrics)}; they must be finite")
    return snapshot.with_digest()


def _describe_tensor(value: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(value).data.cast("B") if value.size else b""
    return {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": compute_digest(content)}
