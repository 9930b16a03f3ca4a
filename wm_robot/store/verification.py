"""Verification of a store: finds damaged files, and moves them into quarantine on request."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wm_robot.errors import SnapshotError
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import Store


def find_damage(store: Store) -> list[str]:
    """Check every byte of a store; nothing is written.

    Returns:
        One sentence for each fault; empty if there is none.
    """
    store.check_exists()
    with store.layout.lock_for_reading():
        return _check_files(store, lambda path: None).faults


def quarantine_damaged(store: Store) -> list[str]:
    """Check every byte of a store, move damaged files into `quarantine`, and write the index again.

    Returns:
        As `find_damage`.
    """
    with store.layout.lock_for_change():
        checked = _check_files(store, store.layout.move_to_quarantine)
        store.index.clear()
        store.index.add_snapshots(checked.whole)
    return checked.faults


@dataclass(frozen=True, kw_only=True)
class _CheckedFiles:
    """Result of a check of all files."""

    faults: list[str] = field(default_factory=list)
    whole: list[Snapshot] = field(default_factory=list)


def _check_files(store: Store, remove: Callable[[Path], None]) -> _CheckedFiles:
    """Check manifests and objects, then names; each damaged file is removed before the next one is checked."""
    checked = _CheckedFiles()
    for digest in sorted(path.stem for path in store.manifests.path.glob("*.json")):
        files = [store.manifests.file_of(digest)]
        try:
            snapshot = store.manifests.read(digest)
            files.append(store.objects.file_of(snapshot))
            if not store.is_pruned(snapshot):
                store.objects.read_tensors(snapshot)
            checked.whole.append(snapshot)
        except SnapshotError as error:
            checked.faults.append(str(error))
            for path in files:
                remove(path)
    checked.faults.extend(_check_references(store, {snapshot.digest for snapshot in checked.whole}))
    return checked


def _check_references(store: Store, whole: set[str]) -> list[str]:
    faults = []
    for folder in (store.branch_references, store.pin_references):
        for name in folder.list_names():
            try:
                head = folder.read(name)
            except SnapshotError as error:
                faults.append(str(error))
                continue
            if head is not None and head not in whole:
                faults.append(
                    f"{folder.noun} '{name}' leads to {head[:12]}, which is not here, or is damaged"
                )
    return faults
