"""Manifests of a store: one JSON file per snapshot, named by its SHA-256."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wm_robot.errors import SnapshotError
from wm_robot.store.snapshot import SHA256, Snapshot
from wm_robot.store.store_folder import MANIFESTS, write_if_different

MAX_MANIFEST_BYTES = 1 << 20
"""Bytes; a larger file is refused before it is read."""


class ManifestFolder:
    """Folder of manifests; reads and writes one by its digest."""

    def __init__(self, store_path: Path):
        self._store_path = store_path
        self.path = store_path / MANIFESTS

    def file_of(self, digest: str) -> Path:
        """Return the file of a manifest."""
        return self.path / f"{digest}.json"

    def list_digests(self) -> set[str]:
        """Return the digests of all manifests on disk; none is read."""
        names = {name.removesuffix(".json") for name in os.listdir(self.path)}
        return {name for name in names if SHA256.fullmatch(name)}

    def read(self, digest: str) -> Snapshot:
        """Return the manifest of a digest.

        Raises:
            SnapshotError: If it is missing or damaged.
        """
        path = self.file_of(digest)
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise SnapshotError(f"{path} is larger than a manifest can be")
            return Snapshot.parse(digest, path.read_bytes())
        except OSError as error:
            raise SnapshotError(f"snapshot {digest[:12]} is not in {self._store_path}: {error}") from error

    def read_undamaged(self, digests: Iterable[str]) -> Iterator[Snapshot]:
        """Yield the manifests that can be read."""
        for digest in digests:
            try:
                yield self.read(digest)
            except SnapshotError:
                # `find_damage` reports it; one damaged manifest must not hide the others.
                continue

    def write(self, snapshot: Snapshot) -> None:
        """Write the manifest of a snapshot, unless it is there."""
        write_if_different(self.file_of(snapshot.digest), snapshot.encode())
