"""`wm-robot state …`: look at lives, name them, go back, make room, and bring them elsewhere.

A life is written `STORE`, `STORE@BRANCH`, `STORE@BRANCH~2` (two snapshots before), or `STORE@` and the beginning of a
snapshot's digest.
"""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError
from wm_robot_cli import assimilate, save, ship
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
            rows.append({"name": name, "kind": kind, **_row(place.read(head))})
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
    store, reference = _opened(life)
    other, name = _opened(target)
    before = other.branches().get(name)
    found = other.clone(store, reference, branch=name)
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
    from wm_robot.store.store import QUARANTINE, Store

    place = Store(store)
    found = place.verify(repair=repair)
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
    from wm_robot.store.store import Store

    gone = Store(store).gc(keep_last=keep_last, dry_run=dry_run)
    if as_json:
        print(
            json.dumps({"removed": [each.digest for each in gone], "bytes": sum(each.size for each in gone)})
        )
        return
    print_rows([_row(each) for each in gone], as_json)
    size = sum(each.size for each in gone) / 2**20
    print(f"{len(gone)} snapshots, {size:.1f} MiB {'would be' if dry_run else 'were'} removed")


def diff(one: Life, other: Life, /, *, base: Path | None = None, as_json: JsonFlag = False) -> None:
    """How two states differ: in their numbers, and with a base in what they expect of each joint.

    Args:
        one: A life.
        other: Another.
        base: Folder of their base.
        as_json: Print JSON.
    """
    lives = [(store, store.show(reference)) for store, reference in (_opened(one), _opened(other))]
    _check_comparable((one, other), [snapshot for _, snapshot in lives])
    place = None if base is None else _base_of(base, one, lives[0][1])
    states = [store.load(snapshot.digest) for store, snapshot in lives]
    rows = _bytes_apart(*states) if place is None else _expected_apart(place, *states)
    print_rows(rows, as_json)


def _check_comparable(names: Sequence[str], lives: "Sequence[Snapshot]") -> None:
    """Refuse states whose numbers do not mean the same."""
    for what, key in (("base", "base_digest"), ("robot", "spec_digest")):
        ours, theirs = (getattr(snapshot, key)[:12] for snapshot in lives)
        if ours != theirs:
            raise SnapshotError(
                f"{names[0]} was lived with {what} {ours}, {names[1]} with {what} {theirs}: their numbers do not "
                f"mean the same. Compare lives of one {what}. See: wm-robot state show {shlex.quote(names[1])}"
            )


def _base_of(base: Path, life: str, snapshot: "Snapshot") -> Path:
    """The folder of a base, once it is known to be that of a life."""
    from wm_robot.io.base_file import check_is_of, find_base

    folder = find_base(base)
    check_is_of(folder, snapshot.base_digest, life)
    return folder


def _bytes_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    import numpy as np

    rows = []
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            rows.append({"tensor": name, "differ": "in one alone", "largest": float("nan")})
        elif one[name].shape != other[name].shape:
            rows.append({"tensor": name, "differ": "in shape", "largest": float("nan")})
        elif (apart := np.abs(one[name].astype(np.float64) - other[name])).any():
            share = f"{np.count_nonzero(apart)} of {apart.size}"
            rows.append({"tensor": name, "differ": share, "largest": float(apart.max())})
    return rows


def _expected_apart(base: Path, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each sensor: how far apart the two expect it to be, from the same moments and actions."""
    try:
        import torch

        from wm_robot.robots import load_spec
    except ImportError as error:
        raise MissingExtraError("wm-robot state diff --base", "learn,sim") from error
    from wm_robot.memory.lifetime_state import LifetimeState
    from wm_robot.model.base import load_base

    moments, horizon = 256, 8
    loaded = load_base(base)
    model, generator = loaded.model, torch.Generator().manual_seed(0)
    spec = load_spec(loaded.manifest["robot"])

    def around(mean: Any, spread: Any, *shape: int) -> Any:
        return mean + 0.5 * spread * torch.randn(*shape, len(mean), generator=generator)

    obs = around(model.obs_mean, model.obs_std, moments)
    plans = around(model.action_mean, model.action_std, moments, 1).expand(-1, horizon, -1)[:, None]
    ends = []
    with torch.inference_mode():
        for arrays in (one, other):
            born = model.birth(hold=plans[:, 0, 0])
            initial = born.flatten()
            saved = {
                name: torch.from_numpy(value).expand(moments, *value.shape[1:])
                for name, value in arrays.items()
                if name in initial
            }
            state = replace(LifetimeState.unflatten(initial | saved), recent=born.recent)
            ends.append(model.imagine(state, model.observe(state, obs), plans).mean[:, 0])
    apart = (ends[0] - ends[1]).square().mean(0).sqrt()
    return [
        {"sensor": name, "after 1 step": float(apart[0, i]), f"after {horizon} steps": float(apart[-1, i])}
        for i, name in enumerate(spec.observation_names)
    ]


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
    "diff": diff,
    "verify": verify,
    "gc": gc,
    "ship": ship.ship,
    "import": ship.take_in,
    "inspect": ship.inspect,
    "export": ship.export,
    "assimilate": assimilate.assimilate,
    "pool": assimilate.pool,
}
