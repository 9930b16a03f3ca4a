"""Objects of a store: one safetensors file per lifetime state, named by its SHA-256."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import compute_digest, write_file
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store_folder import OBJECTS, write_if_different

OBJECT_SUFFIX, PRUNED_SUFFIX = ".safetensors", ".pruned"
"""Endings of a file of tensors, and of the empty file in its place after `collect_garbage` removed the tensors."""
MAX_OBJECT_BYTES = 1 << 30
"""Bytes; a larger file is refused before it is read."""


class ObjectFolder:
    """Folder of tensor files; reads and writes the one of a snapshot."""

    def __init__(self, store_path: Path):
        self._store_path = store_path
        self.path = store_path / OBJECTS

    def file_of(self, snapshot: Snapshot) -> Path:
        """Return the file of a snapshot's tensors."""
        return self.path / f"{snapshot.object}{OBJECT_SUFFIX}"

    def is_pruned(self, snapshot: Snapshot) -> bool:
        """Whether `collect_garbage` removed its tensors and kept its manifest."""
        path = self.file_of(snapshot)
        return path.with_suffix(PRUNED_SUFFIX).exists() and not path.exists()

    def mark_pruned(self, snapshot: Snapshot) -> None:
        """Record that the tensors of a snapshot are not in this store on purpose."""
        write_file(self.file_of(snapshot).with_suffix(PRUNED_SUFFIX), b"")

    def write(self, snapshot: Snapshot, content: bytes) -> None:
        """Write the tensors' file of a snapshot, unless it is there."""
        write_if_different(self.file_of(snapshot), content)

    def read_bytes(self, snapshot: Snapshot) -> bytes:
        """Return the content of a snapshot's file; see `Store.read_object`."""
        path, where = self.file_of(snapshot), f"snapshot {snapshot.digest[:12]} in {self._store_path}"
        if self.is_pruned(snapshot):
            raise SnapshotError(
                f"{where} was pruned: only its manifest is kept. Continue from another snapshot of `log`"
            )
        try:
            if path.stat().st_size != snapshot.size or snapshot.size > MAX_OBJECT_BYTES:
                raise SnapshotError(
                    f"{where} is damaged: its tensors have another size. Continue from an earlier snapshot"
                )
            content = path.read_bytes()
        except OSError as error:
            raise SnapshotError(
                f"{where} has lost its tensors: {error}. Continue from an earlier snapshot"
            ) from error
        if compute_digest(content) != snapshot.object:
            raise SnapshotError(
                f"{where} is damaged: its SHA-256 is not the manifest's. Continue from an earlier snapshot"
            )
        return content

    def read_tensors(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        """Return the tensors of a snapshot; the file's bytes are checked before they are parsed.

        Raises:
            SnapshotError: If they are missing, damaged, pruned, or not those of the manifest.
        """
        where = f"snapshot {snapshot.digest[:12]} in {self._store_path}"
        content = self.read_bytes(snapshot)
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise SnapshotError(f"{where} holds no tensors: {error}") from error
        found = {name: (str(value.dtype), list(value.shape)) for name, value in tensors.items()}
        wanted = {name: (each["dtype"], each["shape"]) for name, each in snapshot.tensors.items()}
        if found != wanted:
            raise SnapshotError(f"{where} holds other tensors than its manifest lists")
        return dict(tensors)
