"""Garbage collection of a store: removes unreachable snapshots, and prunes long lines."""

from collections.abc import Sequence

from wm_robot.io.durable import PART_SUFFIX, sync_folder
from wm_robot.store.lineage import collect_ancestors, select_recent
from wm_robot.store.objects import OBJECT_SUFFIX
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import Store
from wm_robot.store.store_folder import FOLDERS


def collect_garbage(store: Store, *, keep_last: int | None = None, dry_run: bool = False) -> list[Snapshot]:
    """Remove snapshots that no branch and no pin leads to. It may be killed at any moment.

    Args:
        keep_last: Keep the tensors of so many of each branch's last snapshots, of as many before them, each twice
            as far back as the one after it, and of pins; of all others in the line the manifests alone.
        dry_run: Remove nothing, and write nothing.

    Returns:
        Snapshots whose tensors were removed, or would be.

    Raises:
        SnapshotError: If a manifest is damaged or missing: its ancestors would be taken for unreachable.
    """
    store.check_exists()
    with store.layout.lock_for_reading() if dry_run else store.layout.lock_for_change():
        # From the manifests themselves: the index may lack some.
        snapshots = {digest: store.manifests.read(digest) for digest in store.manifests.list_digests()}
        heads, pins = store.read_branches().values(), store.read_pins().values()
        lineage = collect_ancestors([*heads, *pins], snapshots)
        whole = set(lineage)
        if keep_last is not None:
            lines = [
                select_recent(collect_ancestors([head], snapshots), snapshots, keep_last) for head in heads
            ]
            whole = set(pins).union(*lines) & lineage
        objects = {snapshots[digest].object for digest in whole}
        removed = [
            each for each in snapshots.values() if each.object not in objects and not store.is_pruned(each)
        ]
        if not dry_run:
            _remove_files(store, removed, lineage, objects)
            store.index.clear()
            store.index.add_snapshots(snapshots[digest] for digest in lineage)
    return removed


def _remove_files(store: Store, removed: Sequence[Snapshot], lineage: set[str], objects: set[str]) -> None:
    """Remove manifests first and then the objects that they name, never the other way round."""
    for path in store.manifests.path.glob("*.json"):
        if path.stem not in lineage:
            path.unlink()
    sync_folder(store.manifests.path)
    for snapshot in removed:
        if snapshot.digest in lineage:
            store.objects.mark_pruned(snapshot)
    named = {store.manifests.read(digest).object for digest in lineage}
    for path in store.objects.path.iterdir():
        wanted = objects if path.suffix == OBJECT_SUFFIX else named
        if path.stem not in wanted:
            path.unlink(missing_ok=True)
    for name in FOLDERS:
        # Partly written files of a process that was killed.
        for path in (store.folder / name).glob(f".*{PART_SUFFIX}"):
            path.unlink(missing_ok=True)
        sync_folder(store.folder / name)
