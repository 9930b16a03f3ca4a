"""Verbs `wm-robot state …`: inspect, name, reset, delete and transfer lifetime states.

A reference is `STORE`, `STORE@BRANCH`, `STORE@BRANCH~2` (two snapshots before), or `STORE@` and the first characters
of a snapshot's digest.
"""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot_cli import assimilate, save, ship, state_diff
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import Count, CountOrZero

if TYPE_CHECKING:
    from wm_robot.store.snapshot import Snapshot
    from wm_robot.store.store import Store

Life = Annotated[str, tyro.conf.Positional]
More = Annotated[tuple[str, ...], tyro.conf.Positional]
"""Extra words after a reference, to print the correct form of the command."""
JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]


def state() -> None:
    """Lifetime states on disk: `wm-robot state ls|log|show|branch|clone|reset|pin|unpin|forget|diff|verify|gc`, and
    `ship|import|inspect|export` to transfer them.
    """
    raise AssertionError("main calls the verbs of this group; this function is only listed")


def ls(store: Annotated[Path, tyro.conf.Positional], /, *, as_json: JsonFlag = False) -> None:
    """List the branches and pins of a store.

    Args:
        store: Folder of the store.
        as_json: Print JSON.
    """
    from wm_robot.store.store import Store

    place = Store(store)
    place.check_exists()
    rows = []
    for kind, names in (("branch", place.branches()), ("pin", place.pins())):
        for name, head in names.items():
            rows.append({"name": name, "kind": kind, **_row(place.manifests.read(head))})
    print_rows(rows, as_json)


def log(life: Life, more: More = (), /, *, limit: CountOrZero = 20, as_json: JsonFlag = False) -> None:
    """List the snapshots of a lifetime, the newest first.

    Args:
        life: `STORE`, or `STORE@BRANCH`.
        more: Nothing; a branch is part of the reference.
        limit: Largest number of snapshots; 0 for all.
        as_json: Print JSON.
    """
    _check_one("log", life, more)
    store, reference = _opened(life)
    names: dict[str, list[str]] = {}
    for name, head in (*store.branches().items(), *store.pins().items()):
        names.setdefault(head, []).append(name)
    rows, open_lines = [], list[str]()
    for snapshot in store.log(reference, limit or None):
        row = {"": _graph(snapshot, open_lines), **_row(snapshot)}
        del row["base"], row["sequence"]
        row["names"] = ", ".join(names.get(snapshot.digest, ()))
        row["kept"] = "manifest" if store.pruned(snapshot) else "whole"
        row["note"] = snapshot.note
        rows.append(row)
    print_rows(rows, as_json)


def show(life: Life, more: More = (), /, *, as_json: JsonFlag = False) -> None:
    """Print the manifest of a snapshot.

    Args:
        life: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`.
        more: Nothing; a branch is part of the reference.
        as_json: Print JSON.
    """
    _check_one("show", life, more)
    store, reference = _opened(life)
    snapshot = store.show(reference)
    values = json.loads(snapshot.manifest()) | {"digest": snapshot.digest}
    if as_json:
        print(json.dumps(values))
        return
    tensors = values.pop("tensors")
    for name, value in values.items():
        print(f"{name:12} {value}")
    print_rows(
        [
            {"tensor": name, "dtype": each["dtype"], "shape": str(each["shape"])}
            for name, each in tensors.items()
        ],
        as_json,
    )


def branch(life: Life, name: Life, /) -> None:
    """Create a branch from a snapshot, in the same store; nothing is copied.

    Args:
        life: Snapshot to start from.
        name: Of the new branch.
    """
    store, reference = _opened(life)
    print(f"branch '{name}' starts at {store.branch(name, reference)[:12]} in {store.folder}")


def clone(life: Life, target: Life, /) -> None:
    """Copy a lifetime with its ancestors into another store; or move its branch forward there.

    Args:
        life: Lifetime to copy.
        target: `STORE` or `STORE@BRANCH`. An existing branch is moved forward if it is an ancestor, and otherwise
            unchanged.
    """
    from wm_robot.store.transfer import clone_branch

    store, reference = _opened(life)
    other, name = _opened(target)
    before = other.branches().get(name)
    found = clone_branch(other, store, reference, branch=name)
    moved = f"; it was at {before[:12]}" if before else ""
    print(f"branch '{name}' {'is' if before else 'starts'} at {found[:12]} in {other.folder}{moved}")


def reset(life: Life, reference: Life = "", /) -> None:
    """Move a branch to another snapshot of its store; its old snapshot can be found until `gc`.

    Args:
        life: `STORE@BRANCH`, or `STORE` for the default branch.
        reference: Branch, pin or digest, with `~N` for the Nth before it.
    """
    store, name = _opened(life)
    if not reference:
        back = f"{name}~1" if store.show(name).parents else name
        raise ConfigError(
            f"state reset {life} has no snapshot to continue from. One before: wm-robot state reset "
            f"{shlex.quote(life)} {back}. All of them: wm-robot state log {shlex.quote(life)}"
        )
    before = _head_of(store, name)
    print(f"branch '{name}' is at {store.reset(name, reference)[:12]}; it was at {before}")


def pin(life: Life, name: Life, /) -> None:
    """Protect a snapshot, and its place in the lineage, from deletion.

    Args:
        life: Snapshot to protect.
        name: Of the pin.
    """
    store, reference = _opened(life)
    print(f"pin '{name}' holds {store.pin(name, reference)[:12]}")


def unpin(store: Annotated[Path, tyro.conf.Positional], name: Life, /) -> None:
    """Remove a pin.

    Args:
        store: Folder of the store.
        name: Of the pin.
    """
    from wm_robot.store.store import Store

    Store(store).unpin(name)
    print(f"pin '{name}' is removed")


def forget(life: Life, more: More = (), /) -> None:
    """Delete a branch; its snapshots can be found by digest until `gc`.

    Args:
        life: `STORE@BRANCH`.
        more: Nothing; a branch is part of the reference.
    """
    _check_one("forget", life, more)
    store, name = _opened(life)
    head = _head_of(store, name)
    store.forget(name)
    print(f"branch '{name}' is deleted; it was at {head}")


def verify(
    store: Annotated[Path, tyro.conf.Positional], /, *, repair: bool = False, as_json: JsonFlag = False
) -> None:
    """Check every byte, and change nothing. Exit code 1 if a file is damaged.

    Args:
        store: Folder of the store.
        repair: Move damaged files into the folder `quarantine` of the store.
        as_json: Print JSON.
    """
    from wm_robot.store.store import Store
    from wm_robot.store.store_folder import QUARANTINE
    from wm_robot.store.verification import find_damage, quarantine_damaged

    place = Store(store)
    found = quarantine_damaged(place) if repair else find_damage(place)
    if as_json:
        print(json.dumps({"damaged": found, "repaired": bool(found) and repair}))
    elif not found:
        print(f"all {len(place.snapshots())} snapshots in {store} are whole")
    else:
        print("\n".join(found))
        aside = shlex.quote(str(store))
        print(
            f"damaged files were moved into {place.folder / QUARANTINE}"
            if repair
            else f"nothing was changed. To move them away: wm-robot state verify {aside} --repair"
        )
    if found:
        sys.exit(1)


def gc(
    store: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    keep_last: Count | None = None,
    dry_run: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete the snapshots that no branch and no pin leads to.

    Args:
        store: Folder of the store.
        keep_last: Delete tensors within branches too. The tensors of this number of last snapshots of each branch
            stay, of as many before them at growing distances, and of pins; of the others only the manifests.
        dry_run: Print the result, and delete nothing.
        as_json: Print JSON.
    """
    from wm_robot.store.garbage_collection import collect_garbage
    from wm_robot.store.store import Store

    gone = collect_garbage(Store(store), keep_last=keep_last, dry_run=dry_run)
    if as_json:
        print(
            json.dumps({"removed": [each.digest for each in gone], "bytes": sum(each.size for each in gone)})
        )
        return
    print_rows([_row(each) for each in gone], as_json)
    size = sum(each.size for each in gone) / 2**20
    print(f"{len(gone)} snapshots, {size:.1f} MiB {'would be' if dry_run else 'were'} removed")


def _opened(life: str) -> "tuple[Store, str]":
    from wm_robot.store.store import opened

    return opened(life)


def _check_one(verb: str, life: str, more: Sequence[str]) -> None:
    """Reject a branch that is written after its store and not as part of the reference."""
    if more:
        meant = life if "@" in life else f"{life}@{more[0]}"
        raise ConfigError(
            f"state {verb} takes one reference, and got '{life} {' '.join(more)}'; a branch is written STORE@BRANCH. "
            f"Run: wm-robot state {verb} {shlex.quote(meant)}"
        )


def _head_of(store: "Store", name: str) -> str:
    """Return the short digest of a branch. A damaged branch can still be reset or deleted."""
    store.check_exists()
    try:
        return store.branches().get(name, "")[:12]
    except SnapshotError:
        return "no snapshot, because it was damaged"


def _row(snapshot: "Snapshot") -> dict[str, Any]:
    return {
        "snapshot": snapshot.digest[:12],
        "steps": snapshot.steps,
        "sequence": snapshot.sequence,
        "base": snapshot.base_digest[:8],
        "MiB": round(snapshot.size / 2**20, 2),
        "saved": snapshot.created[:16].replace("T", " "),
    }


def _graph(snapshot: "Snapshot", lines: list[str]) -> str:
    """Draw one row of the lineage: a column for each open line; `*` is this snapshot."""
    if snapshot.digest not in lines:
        lines.append(snapshot.digest)
    drawn = " ".join("*" if line == snapshot.digest else "|" for line in lines)
    at = lines.index(snapshot.digest)
    lines[at : at + 1] = [parent for parent in snapshot.parents if parent not in lines]
    return drawn


VERBS: dict[str, Callable[..., Any]] = {
    "ls": ls,
    "log": log,
    "show": show,
    "save": save.save,
    "branch": branch,
    "clone": clone,
    "reset": reset,
    "pin": pin,
    "unpin": unpin,
    "forget": forget,
    "diff": state_diff.diff,
    "verify": verify,
    "gc": gc,
    "ship": ship.ship,
    "import": ship.take_in,
    "inspect": ship.inspect,
    "export": ship.export,
    "assimilate": assimilate.assimilate,
    "pool": assimilate.pool,
}
