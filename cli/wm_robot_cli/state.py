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
from wm_robot_cli import assimilate, migrate, save, ship, state_diff
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import Count, CountOrZero, JsonFlag

if TYPE_CHECKING:
    from wm_robot.store.snapshot import Snapshot
    from wm_robot.store.store import Store

StateReference = Annotated[str, tyro.conf.Positional]
ExtraWords = Annotated[tuple[str, ...], tyro.conf.Positional]
"""Extra words after a reference, to print the correct form of the command."""


def list_state_verbs() -> None:
    """Lifetime states on disk: `wm-robot state ls|log|show|branch|clone|reset|pin|unpin|delete|diff|verify|gc`, and
    `ship|import|inspect|export` to transfer them.
    """
    raise AssertionError("main calls the verbs of this group; this function is only listed")


def list_branches(store: Annotated[Path, tyro.conf.Positional], /, *, as_json: JsonFlag = False) -> None:
    """List the branches and pins of a store.

    Args:
        store: Folder of the store.
        as_json: Print JSON.
    """
    from wm_robot.store.store import Store

    place = Store(store)
    place.check_exists()
    rows = []
    for kind, names in (("branch", place.read_branches()), ("pin", place.read_pins())):
        for name, head in names.items():
            rows.append({"name": name, "kind": kind, **_make_row(place.manifests.read(head))})
    print_rows(rows, as_json)


def log_snapshots(
    state: StateReference, more: ExtraWords = (), /, *, limit: CountOrZero = 20, as_json: JsonFlag = False
) -> None:
    """List the snapshots of a lifetime, the newest first.

    Args:
        state: `STORE`, or `STORE@BRANCH`.
        more: Not used: a branch is part of the reference, as in `STORE@BRANCH`.
        limit: Largest number of snapshots; 0 for all.
        as_json: Print JSON.
    """
    _check_single_reference("log", state, more)
    store, reference = _open_reference(state)
    names: dict[str, list[str]] = {}
    for name, head in (*store.read_branches().items(), *store.read_pins().items()):
        names.setdefault(head, []).append(name)
    rows, open_lines = [], list[str]()
    for snapshot in store.iterate_lineage(reference, limit or None):
        row = {"": _draw_lineage(snapshot, open_lines), **_make_row(snapshot)}
        del row["base"], row["sequence"]
        row["names"] = ", ".join(names.get(snapshot.digest, ()))
        row["kept"] = "manifest" if store.is_pruned(snapshot) else "whole"
        row["note"] = snapshot.note
        rows.append(row)
    print_rows(rows, as_json)


def show_snapshot(
    state: StateReference,
    more: ExtraWords = (),
    /,
    *,
    base: Path | None = None,
    robot: str | None = None,
    keys: Path | None = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the manifest of a snapshot, and whether a validation record counts for it.

    Args:
        state: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`.
        more: Not used: a branch is part of the reference, as in `STORE@BRANCH`.
        base: Folder of the state's base; by default one that ships or is near the store.
        robot: Name of the robot, or the path of its spec; the robot of the base by default.
        keys: Folder of the keys that validation records are verified with.
        as_json: Print JSON.
    """
    from wm_robot_cli.validation_record import describe_state_record

    _check_single_reference("show", state, more)
    store, reference = _open_reference(state)
    snapshot = store.read_manifest(reference)
    validation = describe_state_record(f"{store.folder}@{snapshot.digest}", base, robot, keys)
    values = json.loads(snapshot.encode()) | {"digest": snapshot.digest, "validation": validation}
    if as_json:
        print(json.dumps(values))
        return
    values["validation"] = f"{validation['status']}: {validation['sentence']}"
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


def create_branch(state: StateReference, name: StateReference, /) -> None:
    """Create a branch from a snapshot, in the same store; nothing is copied.

    Args:
        state: Snapshot to start from.
        name: Name of the new branch.
    """
    store, reference = _open_reference(state)
    print(f"branch '{name}' starts at {store.create_branch(name, reference)[:12]} in {store.folder}")


def clone_lifetime(state: StateReference, target: StateReference, /) -> None:
    """Copy a lifetime with its ancestors into another store; or move its branch forward there.

    Args:
        state: Lifetime to copy.
        target: `STORE` or `STORE@BRANCH`. An existing branch is moved forward if it is an ancestor, and otherwise
            unchanged.
    """
    from wm_robot.store.transfer import clone_branch

    store, reference = _open_reference(state)
    other, name = _open_reference(target)
    before = other.read_branches().get(name)
    found = clone_branch(other, store, reference, branch=name)
    moved = f"; it was at {before[:12]}" if before else ""
    print(f"branch '{name}' {'is' if before else 'starts'} at {found[:12]} in {other.folder}{moved}")


def reset_branch(state: StateReference, reference: StateReference = "", /) -> None:
    """Move a branch to another snapshot of its store; its old snapshot can be found until `gc`.

    Args:
        state: `STORE@BRANCH`, or `STORE` for the default branch.
        reference: Branch, pin or digest, with `~N` for the Nth before it.
    """
    store, name = _open_reference(state)
    if not reference:
        back = f"{name}~1" if store.read_manifest(name).parents else name
        raise ConfigError(
            f"state reset {state} has no snapshot to continue from. One before: wm-robot state reset "
            f"{shlex.quote(state)} {back}. All of them: wm-robot state log {shlex.quote(state)}"
        )
    before = _describe_head(store, name)
    print(f"branch '{name}' is at {store.reset_branch(name, reference)[:12]}; it was at {before}")


def pin_snapshot(state: StateReference, name: StateReference, /) -> None:
    """Protect a snapshot, and its place in the lineage, from deletion.

    Args:
        state: Snapshot to protect.
        name: Name of the pin.
    """
    store, reference = _open_reference(state)
    print(f"pin '{name}' holds {store.create_pin(name, reference)[:12]}")


def remove_pin(store: Annotated[Path, tyro.conf.Positional], name: StateReference, /) -> None:
    """Remove a pin.

    Args:
        store: Folder of the store.
        name: Name of the pin.
    """
    from wm_robot.store.store import Store

    Store(store).delete_pin(name)
    print(f"pin '{name}' is removed")


def delete_branch(state: StateReference, more: ExtraWords = (), /) -> None:
    """Delete a branch; its snapshots can be found by digest until `gc`.

    Args:
        state: `STORE@BRANCH`.
        more: Not used: a branch is part of the reference, as in `STORE@BRANCH`.
    """
    _check_single_reference("delete", state, more)
    store, name = _open_reference(state)
    head = _describe_head(store, name)
    store.delete_branch(name)
    print(f"branch '{name}' is deleted; it was at {head}")


def verify_store(
    store: Annotated[Path, tyro.conf.Positional], /, *, repair: bool = False, as_json: JsonFlag = False
) -> None:
    """Check every file of a store by its digest, and change nothing. Exit code 1 if a file is damaged.

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
        print(f"all {len(place.list_snapshots())} snapshots in {store} are whole")
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


def delete_unreachable(
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
    print_rows([_make_row(each) for each in gone], as_json)
    size = sum(each.size for each in gone) / 2**20
    print(f"{len(gone)} snapshots, {size:.1f} MiB {'would be' if dry_run else 'were'} removed")


def _open_reference(state: str) -> "tuple[Store, str]":
    from wm_robot.store.store import parse_reference

    return parse_reference(state)


def _check_single_reference(verb: str, state: str, more: Sequence[str]) -> None:
    """Reject a branch that is written after its store and not as part of the reference."""
    if more:
        meant = state if "@" in state else f"{state}@{more[0]}"
        raise ConfigError(
            f"state {verb} takes one reference, and got '{state} {' '.join(more)}'; a branch is written "
            f"STORE@BRANCH. Run: wm-robot state {verb} {shlex.quote(meant)}"
        )


def _describe_head(store: "Store", name: str) -> str:
    """Return the short digest of a branch. A damaged branch can still be reset or deleted."""
    store.check_exists()
    try:
        return store.read_branches().get(name, "")[:12]
    except SnapshotError:
        return "no snapshot, because it was damaged"


def _make_row(snapshot: "Snapshot") -> dict[str, Any]:
    return {
        "snapshot": snapshot.digest[:12],
        "steps": snapshot.steps,
        "sequence": snapshot.sequence,
        "base": snapshot.base_digest[:8],
        "MiB": round(snapshot.size / 2**20, 2),
        "saved": snapshot.created[:16].replace("T", " "),
    }


def _draw_lineage(snapshot: "Snapshot", lines: list[str]) -> str:
    """Draw one row of the lineage: a column for each open line; `*` is this snapshot."""
    if snapshot.digest not in lines:
        lines.append(snapshot.digest)
    drawn = " ".join("*" if line == snapshot.digest else "|" for line in lines)
    at = lines.index(snapshot.digest)
    lines[at : at + 1] = [parent for parent in snapshot.parents if parent not in lines]
    return drawn


STATE_VERBS: dict[str, Callable[..., Any]] = {
    "ls": list_branches,
    "log": log_snapshots,
    "show": show_snapshot,
    "save": save.request_snapshot,
    "branch": create_branch,
    "clone": clone_lifetime,
    "reset": reset_branch,
    "pin": pin_snapshot,
    "unpin": remove_pin,
    "delete": delete_branch,
    "diff": state_diff.compare_states,
    "verify": verify_store,
    "gc": delete_unreachable,
    "ship": ship.ship_state,
    "import": ship.import_state,
    "inspect": ship.inspect_bundle,
    "export": ship.export_state_folder,
    "assimilate": assimilate.assimilate_recordings,
    "pool": assimilate.pool_states,
    "migrate": migrate.migrate_state,
}
