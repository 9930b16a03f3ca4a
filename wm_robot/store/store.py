"""Store of lifetime states: content-addressed snapshots, their lineage, and named branches. Numpy only.

::

    STORE/objects/<sha256>.safetensors    the tensors of a snapshot
    STORE/manifests/<sha256>.json         their description and parents; its name is the snapshot's
    STORE/branches/<name>                 the newest snapshot of a named lifetime state
    STORE/pins/<name>                     a snapshot that is kept whatever happens to branches
    STORE/validation/<sha256>.json        a signed validation record; `collect_garbage` keeps it as evidence
    STORE/quarantine/                     files that failed their check; never read again
    STORE/index.sqlite3                   a copy of the manifests for quick answers; `collect_garbage` makes it again

A snapshot is acknowledged when its object, its manifest and its branch are durable, written in that order, so that a
name never leads to what is not there whole. Nothing is ever changed in place.

Operations that only read write nothing at all, so that a store can be read on a read-only mount. Only `save`,
`copy_from`, `import_root` and `clone_branch` make a store; all others refuse a folder that is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import resolve_base_folder
from wm_robot.store.index import StoreIndex
from wm_robot.store.lineage import iterate_lineage
from wm_robot.store.manifests import ManifestFolder
from wm_robot.store.names import check_name
from wm_robot.store.objects import ObjectFolder
from wm_robot.store.record_folder import RecordFolder
from wm_robot.store.references import ReferenceFolder, resolve_reference
from wm_robot.store.snapshot import Snapshot, StateArrays, create_snapshot
from wm_robot.store.store_folder import BRANCHES, INDEX, PINS, StoreFolder

DEFAULT_BRANCH = "main"
"""Default branch."""
PRETRAINED_STORE = "pretrained"
"""Store next to a base, with a pretrained lifetime state; see `wm-robot pretrain-state`."""
PRETRAINED_NOTE = "pretrained"
"""Note of its snapshot."""


class Store:
    """Folder of snapshots and branches. Several processes may use it; each change is one step under a lock."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.layout = StoreFolder(self.folder)
        self.objects = ObjectFolder(self.folder)
        self.manifests = ManifestFolder(self.folder)
        self.branch_references = ReferenceFolder(self.folder / BRANCHES, noun="branch")
        self.pin_references = ReferenceFolder(self.folder / PINS, noun="pin")
        self.index = StoreIndex(self.folder / INDEX)
        self.validation_records = RecordFolder(self.folder)

    def check_exists(self) -> None:
        """Refuse a folder that is no store.

        Raises:
            SnapshotError: If nothing was ever saved here; it names the stores that are near.
        """
        self.layout.check_exists()

    def check_writable(self) -> None:
        """Refuse a folder in which nothing can be saved, before a state is learned that would be lost.

        Raises:
            SnapshotError: If it, or the one in which it would be made, is no folder that this user may write in.
        """
        self.layout.check_writable()

    def save(
        self,
        state: StateArrays,
        *,
        base_digest: str,
        spec_digest: str,
        branch: str = DEFAULT_BRANCH,
        parents: Sequence[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        note: str = "",
        origin: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        """Write a snapshot; when this returns, it survives a power cut.

        Args:
            branch: Branch to move to the snapshot; created if there is none of that name.
            parents: Snapshots from which it continues; the branch's last one by default.
            origin: Of a state with other than its robot's own experience; see `Snapshot`.

        Raises:
            SnapshotError: If a number is not finite, since such a state cannot be continued; a parent is not here;
                or the branch leads to a snapshot that is no parent, and would be left behind.
        """
        broken = sorted(name for name, value in state.items() if not np.isfinite(value).all())
        if broken:
            raise SnapshotError(
                f"{broken} of the lifetime state are not finite. Continue from an earlier snapshot"
            )
        content = save({name: np.ascontiguousarray(value) for name, value in state.items()})
        with self.layout.lock_for_change(create=True):
            head = self.branch_references.read(check_name(branch))
            if parents is None:
                parents = [head] if head else []
            if head and head not in parents:
                raise SnapshotError(
                    f"branch '{branch}' in {self.folder} is at {head[:12]}, from which this state does not continue. "
                    f"Continue from it (restore {self.folder}@{branch}), or save in another branch"
                )
            sequences = [self.manifests.read(parent).sequence for parent in parents]
            snapshot = create_snapshot(
                state,
                content,
                parents=tuple(parents),
                base_digest=base_digest,
                spec_digest=spec_digest,
                sequence=1 + max(sequences, default=0),
                metrics=dict(metrics or {}),
                note=note,
                origin=dict(origin or {}),
            )
            self.commit(snapshot, content, branch)
        return snapshot

    def commit(self, snapshot: Snapshot, content: bytes, branch: str) -> None:
        """Write object, manifest and branch in that order, under a lock that the caller holds.

        Args:
            content: Of the tensors' file.
        """
        self.objects.write(snapshot, content)
        self.manifests.write(snapshot)
        self.branch_references.write(branch, snapshot.digest)
        self.index.add_snapshots([snapshot])

    def load(
        self,
        reference: str = DEFAULT_BRANCH,
        *,
        base_digest: str | None = None,
        spec_digest: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the tensors of a snapshot; its bytes are checked before they are parsed.

        Args:
            reference: See `resolve`.
            base_digest: Of the base that will continue it.
            spec_digest: Of the robot that will continue it.

        Raises:
            SnapshotError: If it is missing, damaged, or of another base or robot.
        """
        snapshot = self.read_manifest(reference)
        for name, expected in (("base_digest", base_digest), ("spec_digest", spec_digest)):
            if expected is not None and getattr(snapshot, name) != expected:
                raise SnapshotError(
                    f"snapshot {snapshot.digest[:12]} in {self.folder} was learned with {name} "
                    f"{getattr(snapshot, name)[:12]}, here it is {expected[:12]}. "
                    "Use the base and robot of that snapshot, or start from the initial state"
                )
        return self.objects.read_tensors(snapshot)

    def read_object(self, snapshot: Snapshot) -> bytes:
        """Return the bytes of a snapshot's tensor file, checked and not parsed.

        Raises:
            SnapshotError: If they are missing, damaged or pruned.
        """
        return self.objects.read_bytes(snapshot)

    def copy_from(self, source: "Store", reference: str, *, tensors: bool = True) -> str:
        """Copy a snapshot and all its ancestors from another store, so that a branch here can continue from it.

        Args:
            tensors: False: copy the manifests alone, as if the line was pruned here.

        Returns:
            The snapshot's digest.
        """
        if self.folder.resolve() == source.folder.resolve():
            return self.resolve(reference)
        line = list(source.iterate_lineage(reference))
        with self.layout.lock_for_change(create=True):
            # The oldest first: the parents that a manifest names are here before it.
            for snapshot in reversed(line):
                if not tensors or source.is_pruned(snapshot):
                    if not self.objects.file_of(snapshot).exists():
                        self.objects.mark_pruned(snapshot)
                else:
                    self.objects.write(snapshot, source.read_object(snapshot))
                self.manifests.write(snapshot)
            self.index.add_snapshots(line)
        self.validation_records.copy_from(source.validation_records)
        return line[0].digest

    def resolve(self, reference: str) -> str:
        """Return the digest of a snapshot.

        Args:
            reference: A branch, a pin, or the first 6 or more digits of a digest; `~N` after it is the Nth before it.

        Raises:
            SnapshotError: If there is none, or more than one; or if this is no store.
        """
        self.check_exists()
        return resolve_reference(
            reference, branches=self.branch_references, pins=self.pin_references, manifests=self.manifests
        )

    def read_manifest(self, reference: str = DEFAULT_BRANCH) -> Snapshot:
        """Return the manifest of a snapshot; see `resolve`."""
        return self.manifests.read(self.resolve(reference))

    def is_pruned(self, snapshot: Snapshot) -> bool:
        """Whether `collect_garbage` removed its tensors; its place in the lineage is kept."""
        return self.objects.is_pruned(snapshot)

    def read_branches(self) -> dict[str, str]:
        """Return name → digest of each branch."""
        return self.branch_references.read_all()

    def read_pins(self) -> dict[str, str]:
        """Return name → digest of each pin."""
        return self.pin_references.read_all()

    def list_snapshots(self) -> list[Snapshot]:
        """Return all snapshots, the newest last; damaged manifests are left out."""
        self.check_exists()
        digests = self.manifests.list_digests()
        indexed = {each.digest: each for each in self.index.read_all() if each.digest in digests}
        found = [*indexed.values(), *self.manifests.read_undamaged(digests - indexed.keys())]
        return sorted(found, key=lambda each: (each.sequence, each.digest))

    def iterate_lineage(
        self, reference: str = DEFAULT_BRANCH, limit: int | None = None
    ) -> Iterator[Snapshot]:
        """Yield a snapshot and its ancestors, the newest first."""
        yield from iterate_lineage(self.manifests, self.resolve(reference), limit)

    def create_branch(self, name: str, reference: str = DEFAULT_BRANCH) -> str:
        """Create a branch at a snapshot; nothing is copied, and branches never change each other.

        Raises:
            SnapshotError: If the name is taken.
        """
        with self.layout.lock_for_change():
            if self.branch_references.read(check_name(name)):
                raise SnapshotError(
                    f"branch '{name}' is there already in {self.folder}. Reset it, or choose another, such as "
                    f"'{self.branch_references.find_free_name(name)}'"
                )
            found = self.resolve(reference)
            self.branch_references.write(name, found)
        return found

    def reset_branch(self, name: str, reference: str) -> str:
        """Move a branch to another snapshot; its present one stays in the store until `collect_garbage`."""
        with self.layout.lock_for_change():
            self.branch_references.check_exists(name)
            found = self.resolve(reference)
            self.branch_references.write(name, found)
        return found

    def delete_branch(self, name: str) -> None:
        """Delete a branch; its snapshots stay until `collect_garbage`."""
        with self.layout.lock_for_change():
            self.branch_references.delete(name)

    def create_pin(self, name: str, reference: str = DEFAULT_BRANCH) -> str:
        """Name a snapshot that is kept, with all its ancestors, even if no branch leads to it."""
        with self.layout.lock_for_change():
            found = self.resolve(reference)
            self.pin_references.write(name, found)
        return found

    def delete_pin(self, name: str) -> None:
        """Delete a pin."""
        with self.layout.lock_for_change():
            self.pin_references.delete(name)


def parse_reference(reference: str | Path) -> tuple[Store, str]:
    """Return the store and the reference inside it of a text `FOLDER@REFERENCE`; without `@`, branch `main`.

    `bases/arm-semiparametric/pretrained` is the store of a base that ships, from any folder.
    """
    folder, at, inside = str(reference).rpartition("@")
    if not at or "/" in inside:
        folder, inside = str(reference), DEFAULT_BRANCH
    named = Path(folder)
    if named.name == PRETRAINED_STORE and not named.exists():
        named = resolve_base_folder(named.parent) / PRETRAINED_STORE
    return Store(named), inside
