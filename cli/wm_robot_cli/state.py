"""`wm-robot state …`: look at lives, name them, go back, make room, and bring them elsewhere.

A life is written `STORE`, `STORE@BRANCH`, `STORE@BRANCH~2` (two snapshots before), or `STORE@` and the beginning of a
snapshot's digest.
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
"""What follows a life by mistake, so that it can be told how it is written."""
JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]


def state() -> None:
    """Lives on disk: `wm-robot state ls|log|show|branch|clone|reset|pin|unpin|forget|diff|verify|gc`, and
    `ship|import|inspect|export` to bring them elsewhere."""
    raise AssertionError("main has verbs of its own for this one; it stands here to be listed")


def ls(store: Annotated[Path, tyro.conf.Positional], /, *, as_json: JsonFlag = False) -> None:
    """Branches and pins of a store.

    Args:
        store: Folder of lives.
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
    """A life's line, the newest snapshot first.

    Args:
        life: `STORE`, or `STORE@BRANCH`.
        more: Nothing; a branch is written into the life.
        limit: Snapshots at most; 0 for all.
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
    """What the manifest of a snapshot says.

    Args:
        life: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`.
        more: Nothing; a branch is written into the life.
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
    """Begin another named life from a snapshot, in the same store; nothing is copied.

    Args:
        life: What it begins from.
        name: Of the new branch.
    """
    store, reference = _opened(life)
    print(f"branch '{name}' begins at {store.branch(name, reference)[:12]} in {store.folder}")


def clone(life: Life, target: Life, /) -> None:
    """Begin a life in another store, with all that it comes from; or move it forward there.

    Args:
        life: What it begins from.
        target: `STORE` or `STORE@BRANCH`. A branch that is there is moved forward if the life goes on from it, and
            otherwise left alone.
    """
    from wm_robot.store.transfer import clone_branch

    store, reference = _opened(life)
    other, name = _opened(target)
    before = other.branches().get(name)
    found = clone_branch(other, store, reference, branch=name)
    moved = f"; it was at {before[:12]}" if before else ""
    print(f"branch '{name}' {'is' if before else 'begins'} at {found[:12]} in {other.folder}{moved}")


def reset(life: Life, reference: Life = "", /) -> None:
    """Let a branch go on from another snapshot of its store; where it was can be found until `gc`.

    Args:
        life: `STORE@BRANCH`, or `STORE` for the branch that nobody named.
        reference: Branch, pin or digest, with `~N` for the Nth before it.
    """
    store, name = _opened(life)
    if not reference:
        back = f"{name}~1" if store.show(name).parents else name
        raise ConfigError(
            f"state reset {life} names no snapshot to go on from. One before: wm-robot state reset "
            f"{shlex.quote(life)} {back}. All of them: wm-robot state log {shlex.quote(life)}"
        )
    before = _head_of(store, name)
    print(f"branch '{name}' is at {store.reset(name, reference)[:12]}; it was at {before}")


def pin(life: Life, name: Life, /) -> None:
    """Keep a snapshot, and its place in the lineage, whatever happens to branches.

    Args:
        life: What to keep.
        name: For it.
    """
    store, reference = _opened(life)
    print(f"pin '{name}' holds {store.pin(name, reference)[:12]}")


def unpin(store: Annotated[Path, tyro.conf.Positional], name: Life, /) -> None:
    """Undo `pin`.

    Args:
        store: Folder of lives.
        name: Of the pin.
    """
    from wm_robot.store.store import Store

    Store(store).unpin(name)
    print(f"'{name}' is no pin any more")


def forget(life: Life, more: More = (), /) -> None:
    """Remove a branch; its snapshots can be found by digest until `gc`.

    Args:
        life: `STORE@BRANCH`.
        more: Nothing; a branch is written into the life.
    """
    _check_one("forget", life, more)
    store, name = _opened(life)
    head = _head_of(store, name)
    store.forget(name)
    print(f"branch '{name}' is gone; it was at {head}")


def verify(
    store: Annotated[Path, tyro.conf.Positional], /, *, repair: bool = False, as_json: JsonFlag = False
) -> None:
    """Check every byte, and change nothing. Exit code 1 if anything is damaged.

    Args:
        store: Folder of lives.
        repair: Put what is damaged aside, in the folder `quarantine` of the store.
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
            f"what is damaged was put into {place.folder / QUARANTINE}"
            if repair
            else f"nothing was changed. To put it aside: wm-robot state verify {aside} --repair"
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
    """Make room: remove snapshots that no branch and no pin leads to.

    Args:
        store: Folder of lives.
        keep_last: Thin out the lines too: the tensors of so many last snapshots of each branch stay, of as many
            before them, ever further apart, and of pins; of the others the manifests alone.
        dry_run: Say what would be removed, and remove nothing.
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
    """Refuse a branch that is written after its store and not into it."""
    if more:
        meant = life if "@" in life else f"{life}@{more[0]}"
        raise ConfigError(
            f"state {verb} takes one life, and got '{life} {' '.join(more)}'; a branch is written STORE@BRANCH. "
            f"Run: wm-robot state {verb} {shlex.quote(meant)}"
        )


def _head_of(store: "Store", name: str) -> str:
    """Where a branch is, in short; it may be damaged, and still be reset or removed."""
    store.check_exists()
    try:
        return store.branches().get(name, "")[:12]
    except SnapshotError:
        return "no snapshot, since it was damaged"


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
    """One row of the lineage: a column for each line that is open; `*` is this snapshot."""
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
