"""Lineage of snapshots: the ancestors of one, in order or as a set."""

import heapq
from collections.abc import Iterable, Iterator, Mapping

from wm_robot.errors import SnapshotError
from wm_robot.store.manifests import ManifestFolder
from wm_robot.store.snapshot import Snapshot


def iterate_lineage(manifests: ManifestFolder, digest: str, limit: int | None) -> Iterator[Snapshot]:
    """Yield a snapshot and its ancestors, the newest first.

    Args:
        limit: Yield at most so many; None: all.
    """
    first = manifests.read(digest)
    seen, wave = {first.digest}, [(-first.sequence, first.digest, first)]
    while wave and (limit is None or limit > 0):
        _, _, snapshot = heapq.heappop(wave)
        yield snapshot
        limit = None if limit is None else limit - 1
        for name in snapshot.parents:
            if name not in seen:
                seen.add(name)
                parent = manifests.read(name)
                heapq.heappush(wave, (-parent.sequence, name, parent))


def collect_ancestors(heads: Iterable[str], snapshots: Mapping[str, Snapshot]) -> set[str]:
    """Return the digests of some snapshots and of all their ancestors.

    Raises:
        SnapshotError: If one is not in `snapshots`.
    """
    found, wave = set[str](), list(heads)
    while wave:
        name = wave.pop()
        if name not in snapshots:
            raise SnapshotError(
                f"a line leads to {name[:12]}, which is not here: nothing is removed, since its ancestors cannot be "
                "identified. Reset the branch to a whole line, or delete it"
            )
        if name not in found:
            found.add(name)
            wave.extend(snapshots[name].parents)
    return found


def select_recent(line: set[str], snapshots: Mapping[str, Snapshot], keep_last: int) -> set[str]:
    """Return the newest snapshots of a line, and as many before them at distances that double."""
    ordered = sorted(line, key=lambda name: snapshots[name].sequence, reverse=True)
    selected, back = set(ordered[:keep_last]), 1
    while keep_last + back - 1 < len(ordered) and len(selected) < 2 * keep_last:
        selected.add(ordered[keep_last + back - 1])
        back *= 2
    return selected
