"""What a store says of one state of one life."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wm_robot import __version__
from wm_robot.errors import SnapshotError
from wm_robot.io.durable import digest
from wm_robot.spec import canonical_json

FORMAT, KIND = 2, "lifetime-state"
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One state of one life, as its manifest has it."""

    digest: str
    """Of the manifest: the snapshot's name."""
    parents: tuple[str, ...]
    """The snapshot it goes on from; none for a newborn, several where lives were pooled."""
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
    """Wall clock, for people; nothing depends on it."""

    def manifest(self) -> bytes:
        """The manifest's bytes: equal snapshots have equal ones."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "digest"}
        return canonical_json(
            values
            | {"format": FORMAT, "kind": KIND, "parents": list(self.parents), "metrics": dict(self.metrics)}
        )

    @classmethod
    def of(cls, name: str, content: bytes) -> "Snapshot":
        """Read a manifest.

        Raises:
            SnapshotError: If it is damaged, or of another format or kind.
        """
        if digest(content) != name:
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
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SnapshotError(f"manifest {name[:12]} is no manifest: {error}") from error
        if not all(SHA256.fullmatch(each) for each in (found.object, *found.parents)):
            raise SnapshotError(f"manifest {name[:12]} names what is no SHA-256")
        return found
