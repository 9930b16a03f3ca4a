"""Transfer between stores: clone a branch with its ancestors, or import one snapshot as the first of a line."""

import shlex

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import compute_digest
from wm_robot.store.names import check_name
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import DEFAULT_BRANCH, Store


def clone_branch(store: Store, source: Store, reference: str, *, branch: str = DEFAULT_BRANCH) -> str:
    """Copy a snapshot of another store with all its ancestors, and let a branch lead to it.

    The branch is created; or moved forward, if the snapshot descends from its present one.

    Args:
        store: Receives the copy.

    Returns:
        The snapshot's digest.

    Raises:
        SnapshotError: If the branch leads to a snapshot that is no ancestor.
    """
    found = source.resolve(reference)
    references = store.branch_references
    head = references.read(check_name(branch))
    if head is not None and all(each.digest != head for each in source.iterate_lineage(found)):
        free = shlex.quote(f"{store.folder}@{references.find_free_name(branch)}")
        raise SnapshotError(
            f"branch '{branch}' is there already in {store.folder}, at an unrelated snapshot, {head[:12]}. Name a "
            f"free one. Run: wm-robot state clone {shlex.quote(f'{source.folder}@{reference}')} {free}"
        )
    store.copy_from(source, found)
    with store.layout.lock_for_change():
        if references.read(branch) != head:
            raise SnapshotError(
                f"branch '{branch}' in {store.folder} was changed by another process, and is left as it is. Try again"
            )
        references.write(branch, found)
    return found


def import_root(
    store: Store, snapshot: Snapshot, content: bytes, *, branch: str = DEFAULT_BRANCH
) -> Snapshot:
    """Create a branch from a snapshot whose ancestors stay in another store; see `Snapshot.received`.

    Args:
        content: Of its tensors' file.

    Returns:
        The snapshot of the branch that it became: where it was imported before, nothing changes.

    Raises:
        SnapshotError: If these are not its tensors, or the branch leads to an unrelated snapshot.
    """
    if compute_digest(content) != snapshot.object or snapshot.parents or not snapshot.origin:
        raise SnapshotError(f"snapshot {snapshot.digest[:12]} is not the first of a line, with its tensors")
    with store.layout.lock_for_change(create=True):
        head = store.branch_references.read(check_name(branch))
        if head is None:
            store.commit(snapshot, content, branch)
            return snapshot
        came_from = snapshot.origin["snapshot"]
        for each in store.iterate_lineage(head):
            if came_from in (each.digest, each.origin.get("snapshot")):
                return each
    raise SnapshotError(
        f"branch '{branch}' in {store.folder} is at an unrelated snapshot, {head[:12]}. Name a free branch, "
        f"such as {store.folder}@{store.branch_references.find_free_name(branch)}"
    )
