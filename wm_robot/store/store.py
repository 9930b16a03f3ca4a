"""Where lives are kept: content-addressed snapshots, their lineage, and named branches. Numpy only.

::

    STORE/objects/<sha256>.safetensors    the tensors of a snapshot
    STORE/manifests/<sha256>.json         what they are and come from; its name is the snapshot's
    STORE/branches/<name>                 the snapshot that a named life has come to
    STORE/pins/<name>                     a snapshot that is kept whatever happens to branches
    STORE/quarantine/                     what failed its check; never read again
    STORE/index.sqlite3                   a copy of the manifests for quick answers; `gc` makes it again

A snapshot is acknowledged when its object, its manifest and its branch are durable, written in that order, so that a
name never leads to what is not there whole. Nothing is ever changed in place.

What only reads writes nothing at all, so that a store can be read on a mount that is read-only. Only `save`, `fetch`,
`adopt` and `clone` make a store; everything else refuses a folder that is none.
"""

import heapq
import math
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import beside_base
from wm_robot.io.durable import (
    PART,
    digest,
    locked,
    make_folder,
    remove_file,
    sync_folder,
    unchanged,
    write_file,
)
from wm_robot.store.index import StoreIndex
from wm_robot.store.names import checked_name, is_name
from wm_robot.store.nearby_stores import no_store
from wm_robot.store.snapshot import SHA256, Snapshot

MAIN = "main"
"""Branch of a life that nobody named."""
GRADUATE = "graduate"
"""Store beside a base, of a life to begin with; see `wm-robot graduate`."""
FOLDERS = ("objects", "manifests", "branches", "pins")
QUARANTINE, LOCK = "quarantine", ".lock"
OBJECT, PRUNED = ".safetensors", ".pruned"
LARGEST_MANIFEST = 1 << 20
LARGEST_OBJECT = 1 << 30
"""Bytes; a larger file is refused before it is read."""
_DIGEST_START = re.compile("[0-9a-f]{6,64}")

State = Mapping[str, np.ndarray]


class Store:
    """A folder of lives. Several processes may use it at once; each change is one step under a lock."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._index = StoreIndex(self.folder / "index.sqlite3")

    @property
    def exists(self) -> bool:
        """Whether anything was ever saved here."""
        return (self.folder / "manifests").is_dir()

    def check_exists(self) -> None:
        """Refuse a folder that is no store.

        Raises:
            SnapshotError: If nothing was ever saved here; it names the stores that are near.
        """
        if not self.exists:
            raise no_store(self.folder)

    def check_writable(self) -> None:
        """Refuse a folder in which nothing can be saved, before anything is lived that would be lost.

        Raises:
            SnapshotError: If it, or the one in which it would be made, is no folder that this user may write in.
        """
        folder = self.folder.absolute()
        place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
        if not (os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)):
            raise SnapshotError(
                f"nothing can be saved in {self.folder}: {place} is no folder that this user may write in, or is "
                "read-only. Name another folder"
            )

    # --- save and load ------------------------------------------------------------------------------------------

    def save(
        self,
        state: State,
        *,
        base_digest: str,
        spec_digest: str,
        branch: str = MAIN,
        parents: Sequence[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        note: str = "",
    ) -> Snapshot:
        """Write a snapshot; when this returns, it survives a power cut.

        Args:
            branch: Named life that has come to this; begun if there is none of that name.
            parents: Snapshots it goes on from; the branch's last one by default.

        Raises:
            SnapshotError: If a number is not finite, since such a life cannot go on; a parent is not here; or the
                branch has come to what is no parent, and would be left behind.
        """
        broken = sorted(name for name, value in state.items() if not np.isfinite(value).all())
        if broken:
            raise SnapshotError(
                f"{broken} of the lifetime state are not finite. Go on from a snapshot before"
            )
        content = save({name: np.ascontiguousarray(value) for name, value in state.items()})
        with self._changing(create=True):
            head = self._head("branches", checked_name(branch))
            if parents is None:
                parents = [head] if head else []
            if head and head not in parents:
                raise SnapshotError(
                    f"branch '{branch}' in {self.folder} holds a life, {head[:12]}, that this one does not go on "
                    f"from. Go on from it (restore {self.folder}@{branch}), or save in another branch"
                )
            known = [self.read(parent) for parent in parents]
            snapshot = self._described(
                state,
                content,
                parents=tuple(parents),
                base_digest=base_digest,
                spec_digest=spec_digest,
                sequence=1 + max((parent.sequence for parent in known), default=0),
                metrics=dict(metrics or {}),
                note=note,
            )
            self._keep("objects", f"{snapshot.object}{OBJECT}", content)
            self._keep("manifests", f"{snapshot.digest}.json", snapshot.manifest())
            self._point("branches", branch, snapshot.digest)
            self._index.add([snapshot])
        return snapshot

    def load(
        self, reference: str = MAIN, *, base_digest: str | None = None, spec_digest: str | None = None
    ) -> dict[str, np.ndarray]:
        """The tensors of a snapshot; its bytes are checked before they are parsed.

        Args:
            reference: See `find`.
            base_digest: Of the base that is to go on with it.
            spec_digest: Of the robot that is to.

        Raises:
            SnapshotError: If it is missing, damaged, or of another base or robot.
        """
        snapshot = self.show(reference)
        for name, expected in (("base_digest", base_digest), ("spec_digest", spec_digest)):
            if expected is not None and getattr(snapshot, name) != expected:
                raise SnapshotError(
                    f"snapshot {snapshot.digest[:12]} in {self.folder} was lived with {name} "
                    f"{getattr(snapshot, name)[:12]}, here it is {expected[:12]}. "
                    "Use the base and robot of that life, or begin a new one"
                )
        return self._tensors(snapshot)

    def content(self, snapshot: Snapshot) -> bytes:
        """The bytes of its tensors' file, checked and not parsed.

        Raises:
            SnapshotError: If they are missing, damaged or thinned out.
        """
        path, where = self._object(snapshot), f"snapshot {snapshot.digest[:12]} in {self.folder}"
        if self.pruned(snapshot):
            raise SnapshotError(
                f"{where} was thinned out: only its manifest is kept. Go on from another of `log`"
            )
        try:
            if path.stat().st_size != snapshot.size or snapshot.size > LARGEST_OBJECT:
                raise SnapshotError(
                    f"{where} is damaged: its tensors have another size. Go on from one before it"
                )
            content = path.read_bytes()
        except OSError as error:
            raise SnapshotError(f"{where} has lost its tensors: {error}. Go on from one before it") from error
        if digest(content) != snapshot.object:
            raise SnapshotError(
                f"{where} is damaged: its SHA-256 is not the manifest's. Go on from one before it"
            )
        return content

    def fetch(self, other: "Store", reference: str, *, tensors: bool = True) -> str:
        """Take a snapshot and all it comes from out of another store, so that a life here can go on from it.

        Args:
            tensors: False: bring the manifests alone, as if the line was thinned out here.
        """
        if self.folder.resolve() == other.folder.resolve():
            return self.find(reference)
        line = list(other.log(reference))
        with self._changing(create=True):
            # The oldest first: what a manifest names as parent is here before it.
            for snapshot in reversed(line):
                if not tensors or other.pruned(snapshot):
                    if not self._object(snapshot).exists():
                        write_file(self._object(snapshot).with_suffix(PRUNED), b"")
                else:
                    self._keep("objects", f"{snapshot.object}{OBJECT}", other.content(snapshot))
                self._keep("manifests", f"{snapshot.digest}.json", snapshot.manifest())
            self._index.add(line)
        return line[0].digest

    def adopt(self, snapshot: Snapshot, content: bytes, *, branch: str = MAIN) -> Snapshot:
        """Begin a branch with a state whose own beginning stays in another store; see `Snapshot.received`.

        Args:
            content: Of its tensors' file.

        Returns:
            What the branch has of it: where it is there already, and was perhaps lived on from, nothing changes.

        Raises:
            SnapshotError: If these are not its tensors, or the branch holds another life.
        """
        if digest(content) != snapshot.object or snapshot.parents or not snapshot.origin:
            raise SnapshotError(
                f"snapshot {snapshot.digest[:12]} is not the first of a line, with its tensors"
            )
        with self._changing(create=True):
            head = self._head("branches", checked_name(branch))
            if head is None:
                self._keep("objects", f"{snapshot.object}{OBJECT}", content)
                self._keep("manifests", f"{snapshot.digest}.json", snapshot.manifest())
                self._point("branches", branch, snapshot.digest)
                self._index.add([snapshot])
                return snapshot
            came_from = snapshot.origin["snapshot"]
            for each in self.log(head):
                if came_from in (each.digest, each.origin.get("snapshot")):
                    return each
        raise SnapshotError(
            f"branch '{branch}' in {self.folder} holds another life, {head[:12]}. Name a branch that is not there "
            f"yet, such as {self.folder}@{self._free_name(branch)}"
        )

    def clone(self, other: "Store", reference: str, *, branch: str = MAIN) -> str:
        """Let a branch here hold a life of another store, with all that this comes from.

        The branch is begun; or moved forward, if that life goes on from what it holds.

        Returns:
            The snapshot's digest.

        Raises:
            SnapshotError: If the branch holds another life.
        """
        found = other.find(reference)
        head = self._head("branches", checked_name(branch))
        if head is not None and all(each.digest != head for each in other.log(found)):
            source, target = (
                shlex.quote(f"{store.folder}@{name}")
                for store, name in ((other, reference), (self, self._free_name(branch)))
            )
            raise SnapshotError(
                f"branch '{branch}' is there already in {self.folder}, with another life, {head[:12]}. "
                f"Name one that is not there yet. Run: wm-robot state clone {source} {target}"
            )
        self.fetch(other, found)
        with self._changing():
            if self._head("branches", branch) != head:
                raise SnapshotError(
                    f"branch '{branch}' in {self.folder} was changed meanwhile, and is left alone. Try again"
                )
            self._point("branches", branch, found)
        return found

    # --- find ---------------------------------------------------------------------------------------------------

    def find(self, reference: str) -> str:
        """Digest of a snapshot.

        Args:
            reference: A branch, a pin, or the beginning of a digest; `~N` after it is the Nth before it.

        Raises:
            SnapshotError: If there is none, or more than one; or if this is no store.
        """
        self.check_exists()
        name, _, back = reference.partition("~")
        if back and not back.isdigit():
            raise SnapshotError(f"reference '{reference}' ends in '~{back}'; it must be '~' and a number")
        found = self._head("branches", name) or self._head("pins", name)
        if found is None and _DIGEST_START.fullmatch(name):
            ahead = [each for each in self._listed() if each.startswith(name)]
            if len(ahead) > 1:
                raise SnapshotError(
                    f"'{name}' begins {len(ahead)} snapshots in {self.folder}; write more of it"
                )
            found = ahead[0] if ahead else None
        if found is None:
            there = sorted(self.branches())
            close = get_close_matches(name, [*there, *self.pins()], n=1)
            guess = f"Did you mean '{close[0]}'? " if close else ""
            raise SnapshotError(
                f"no lifetime state '{name}' in {self.folder}; its branches are: {', '.join(there) or 'none'}. "
                f"{guess}Name one of them, or begin a new life. See: {self._ls}"
            )
        for _ in range(int(back or 0)):
            parents = self.read(found).parents
            if not parents:
                raise SnapshotError(f"'{reference}' is before the birth of '{name}'")
            found = parents[0]
        return found

    def show(self, reference: str = MAIN) -> Snapshot:
        """The manifest of a snapshot; see `find`."""
        return self.read(self.find(reference))

    def read(self, name: str) -> Snapshot:
        """The manifest of that digest.

        Raises:
            SnapshotError: If it is missing or damaged.
        """
        path = self.folder / "manifests" / f"{name}.json"
        try:
            if path.stat().st_size > LARGEST_MANIFEST:
                raise SnapshotError(f"{path} is larger than a manifest can be")
            return Snapshot.of(name, path.read_bytes())
        except OSError as error:
            raise SnapshotError(f"snapshot {name[:12]} is not in {self.folder}: {error}") from error

    def branches(self) -> dict[str, str]:
        """Name → digest of each named life."""
        return self._names("branches")

    def pins(self) -> dict[str, str]:
        """Name → digest of what is kept in any case."""
        return self._names("pins")

    def snapshots(self) -> list[Snapshot]:
        """All, the newest last."""
        self.check_exists()
        there = self._listed()
        known = {each.digest: each for each in self._index.all() if each.digest in there}
        found = [*known.values(), *self._readable(there - known.keys())]
        return sorted(found, key=lambda each: (each.sequence, each.digest))

    def log(self, reference: str = MAIN, limit: int | None = None) -> Iterator[Snapshot]:
        """A snapshot and those that it comes from, the newest first."""
        first = self.show(reference)
        seen, wave = {first.digest}, [(-first.sequence, first.digest, first)]
        while wave and (limit is None or limit > 0):
            _, _, snapshot = heapq.heappop(wave)
            yield snapshot
            limit = None if limit is None else limit - 1
            for name in snapshot.parents:
                if name not in seen:
                    seen.add(name)
                    parent = self.read(name)
                    heapq.heappush(wave, (-parent.sequence, name, parent))

    # --- names --------------------------------------------------------------------------------------------------

    def branch(self, name: str, reference: str = MAIN) -> str:
        """Begin another life from a snapshot; nothing is copied, and neither life touches the other.

        Raises:
            SnapshotError: If the name is taken.
        """
        with self._changing():
            if self._head("branches", checked_name(name)):
                raise SnapshotError(
                    f"branch '{name}' is there already in {self.folder}. Reset it, or choose another, such as "
                    f"'{self._free_name(name)}'"
                )
            found = self.find(reference)
            self._point("branches", name, found)
        return found

    def reset(self, name: str, reference: str) -> str:
        """Let a life go on from another snapshot; where it was stays in the store until `gc`."""
        with self._changing():
            self._check_is_there("branches", name)
            found = self.find(reference)
            self._point("branches", name, found)
        return found

    def forget(self, name: str) -> None:
        """Remove a branch; its snapshots stay until `gc`."""
        self._unname("branches", name)

    def pin(self, name: str, reference: str = MAIN) -> str:
        """Keep a snapshot, and all it comes from, whatever happens to branches."""
        with self._changing():
            found = self.find(reference)
            self._point("pins", name, found)
        return found

    def unpin(self, name: str) -> None:
        """Undo `pin`."""
        self._unname("pins", name)

    # --- care ---------------------------------------------------------------------------------------------------

    def verify(self, *, repair: bool = False) -> list[str]:
        """Check every byte.

        Args:
            repair: Put what is damaged into the quarantine. Otherwise nothing is written.

        Returns:
            What was found, a sentence each; empty if all is well.
        """
        self.check_exists()
        found, whole = [], list[Snapshot]()
        with self._changing() if repair else unchanged(self.folder / LOCK):
            for name in sorted(path.stem for path in (self.folder / "manifests").glob("*.json")):
                damaged = [self.folder / "manifests" / f"{name}.json"]
                try:
                    snapshot = self.read(name)
                    damaged.append(self._object(snapshot))
                    if not self.pruned(snapshot):
                        self._tensors(snapshot)
                    whole.append(snapshot)
                except SnapshotError as error:
                    found.append(str(error))
                    for path in damaged if repair else ():
                        self._isolate(path)
            kept = {snapshot.digest for snapshot in whole}
            for kind, what in (("branches", "branch"), ("pins", "pin")):
                for name in self._listed_names(kind):
                    try:
                        head = self._head(kind, name)
                    except SnapshotError as error:
                        found.append(str(error))
                        continue
                    if head is not None and head not in kept:
                        found.append(
                            f"{what} '{name}' leads to {head[:12]}, which is not here, or is damaged"
                        )
            if repair:
                self._index.clear()
                self._index.add(whole)
        return found

    def pruned(self, snapshot: Snapshot) -> bool:
        """Whether `gc` gave up its tensors; its place in the lineage is kept."""
        path = self._object(snapshot)
        return path.with_suffix(PRUNED).exists() and not path.exists()

    def gc(self, *, keep_last: int | None = None, dry_run: bool = False) -> list[Snapshot]:
        """Remove snapshots that no branch and no pin leads to. It may be killed at any moment.

        Args:
            keep_last: Keep the tensors of so many of each branch's last snapshots, of as many before them, each twice
                as far back as the one after it, and of pins; of all others in the line the manifests alone.
            dry_run: Remove nothing, and write nothing.

        Returns:
            Those whose tensors were removed, or would be.

        Raises:
            SnapshotError: If a manifest is damaged or missing: what came before it would be taken for unreachable.
        """
        self.check_exists()
        with unchanged(self.folder / LOCK) if dry_run else self._changing():
            # From the manifests themselves: the index may lack some.
            known = {name: self.read(name) for name in self._listed()}
            heads, pins = self.branches().values(), self.pins().values()
            lineage = _closure([*heads, *pins], known)
            whole = set(lineage)
            if keep_last is not None:
                lines = [_thinned(_closure([head], known), known, keep_last) for head in heads]
                whole = set(pins).union(*lines) & lineage
            objects = {known[name].object for name in whole}
            gone = [each for each in known.values() if each.object not in objects and not self.pruned(each)]
            if not dry_run:
                self._remove(gone, lineage, objects)
                self._index.clear()
                self._index.add(known[name] for name in lineage)
        return gone

    def _remove(self, gone: Sequence[Snapshot], lineage: set[str], objects: set[str]) -> None:
        """First the names and then what they lead to, never the other way round."""
        manifests = self.folder / "manifests"
        for path in manifests.glob("*.json"):
            if path.stem not in lineage:
                path.unlink()
        sync_folder(manifests)
        for snapshot in gone:
            if snapshot.digest in lineage:
                write_file(self._object(snapshot).with_suffix(PRUNED), b"")
        named = {self.read(name).object for name in lineage}
        for path in (self.folder / "objects").iterdir():
            wanted = objects if path.suffix == OBJECT else named
            if path.stem not in wanted:
                path.unlink(missing_ok=True)
        for kind in FOLDERS:
            # What a kill left of files that were being written.
            for path in (self.folder / kind).glob(f".*{PART}"):
                path.unlink(missing_ok=True)
            sync_folder(self.folder / kind)

    # --- inside -------------------------------------------------------------------------------------------------

    def _changing(self, *, create: bool = False) -> AbstractContextManager[None]:
        if not create:
            self.check_exists()
        # Always: a kill may have come between two of them.
        for kind in FOLDERS:
            make_folder(self.folder / kind)
        return locked(self.folder / LOCK)

    def _described(self, state: State, content: bytes, **known: Any) -> Snapshot:
        snapshot = Snapshot(
            digest="",
            object=digest(content),
            size=len(content),
            tensors={
                name: {
                    "dtype": str(value.dtype),
                    "shape": list(value.shape),
                    "sha256": digest(np.ascontiguousarray(value).data.cast("B") if value.size else b""),
                }
                for name, value in sorted(state.items())
            },
            steps=int(state["step"].max()) if "step" in state else 0,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **known,
        )
        if any(not math.isfinite(value) for value in snapshot.metrics.values()):
            raise SnapshotError(f"metrics are {dict(snapshot.metrics)}; they must be finite")
        return snapshot.named()

    def _keep(self, kind: str, name: str, content: bytes) -> None:
        """Write what nobody will change, unless it is there; what is there may be damaged."""
        path = self.folder / kind / name
        if not path.exists() or path.read_bytes() != content:
            write_file(path, content)

    def _object(self, snapshot: Snapshot) -> Path:
        return self.folder / "objects" / f"{snapshot.object}{OBJECT}"

    def _tensors(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        where = f"snapshot {snapshot.digest[:12]} in {self.folder}"
        content = self.content(snapshot)
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise SnapshotError(f"{where} holds no tensors: {error}") from error
        found = {name: (str(value.dtype), list(value.shape)) for name, value in tensors.items()}
        wanted = {name: (each["dtype"], each["shape"]) for name, each in snapshot.tensors.items()}
        if found != wanted:
            raise SnapshotError(f"{where} holds other tensors than its manifest says")
        return dict(tensors)

    def _names(self, kind: str) -> dict[str, str]:
        found = {name: self._head(kind, name) for name in self._listed_names(kind)}
        return {name: head for name, head in found.items() if head is not None}

    def _listed_names(self, kind: str) -> list[str]:
        folder = self.folder / kind
        return sorted(
            path.name for path in (folder.iterdir() if folder.is_dir() else ()) if is_name(path.name)
        )

    def _head(self, kind: str, name: str) -> str | None:
        """What a branch or pin leads to; None if there is none of that name."""
        if not is_name(name):
            return None
        path = self.folder / kind / name
        try:
            head = path.read_bytes().decode("ascii", "replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not SHA256.fullmatch(head):
            raise SnapshotError(
                f"{path} is damaged: it holds no digest. Reset it to a snapshot that is whole: wm-robot state reset "
                f"{shlex.quote(f'{self.folder}@{name}')} DIGEST"
            )
        return head

    def _check_is_there(self, kind: str, name: str) -> None:
        if not (is_name(name) and (self.folder / kind / name).is_file()):
            what = {"branches": "branch", "pins": "pin"}[kind]
            there = self._listed_names(kind)
            close = get_close_matches(name, there, n=1)
            guess = f" Did you mean '{close[0]}'?" if close else ""
            raise SnapshotError(
                f"no {what} '{name}' in {self.folder}; there are: {', '.join(there) or 'none'}.{guess} "
                f"See: {self._ls}"
            )

    @property
    def _ls(self) -> str:
        """The command that lists what there is."""
        return f"wm-robot state ls {shlex.quote(str(self.folder))}"

    def _free_name(self, name: str) -> str:
        """A branch that is not there yet."""
        there = self._listed_names("branches")
        return next(free for n in count(2) if (free := f"{name}-{n}") not in there)

    def _point(self, kind: str, name: str, head: str) -> None:
        write_file(self.folder / kind / checked_name(name), f"{head}\n".encode())

    def _unname(self, kind: str, name: str) -> None:
        with self._changing():
            self._check_is_there(kind, name)
            remove_file(self.folder / kind / name)

    def _isolate(self, path: Path) -> None:
        if path.exists():
            make_folder(self.folder / QUARANTINE)
            path.replace(self.folder / QUARANTINE / path.name)
            sync_folder(self.folder / QUARANTINE)
            sync_folder(path.parent)

    def _listed(self) -> set[str]:
        """Digests of the manifests on disk."""
        listed = {name.removesuffix(".json") for name in os.listdir(self.folder / "manifests")}
        return {name for name in listed if SHA256.fullmatch(name)}

    def _readable(self, names: Iterable[str]) -> Iterator[Snapshot]:
        for name in names:
            try:
                yield self.read(name)
            except SnapshotError:
                # `verify` is there to say so; one damaged manifest must not hide the others.
                continue


def _closure(heads: Iterable[str], known: Mapping[str, Snapshot]) -> set[str]:
    """These and all that they come from.

    Raises:
        SnapshotError: If one is not known.
    """
    found, wave = set[str](), list(heads)
    while wave:
        name = wave.pop()
        if name not in known:
            raise SnapshotError(
                f"a line leads to {name[:12]}, which is not here: nothing is removed, since what came before it "
                "could not be told from what nobody needs. Reset the branch to a whole line, or forget it"
            )
        if name not in found:
            found.add(name)
            wave.extend(known[name].parents)
    return found


def _thinned(line: set[str], known: Mapping[str, Snapshot], last: int) -> set[str]:
    """The newest of a line, and ever fewer of those before."""
    ordered = sorted(line, key=lambda name: known[name].sequence, reverse=True)
    kept, back = set(ordered[:last]), 1
    while last + back - 1 < len(ordered) and len(kept) < 2 * last:
        kept.add(ordered[last + back - 1])
        back *= 2
    return kept


def opened(reference: str | Path) -> tuple[Store, str]:
    """Store and reference of what is written `FOLDER@REFERENCE`; without one, the life that nobody named.

    `bases/arm-ekf/graduate` is that of a base that ships, from any folder.
    """
    folder, at, inside = str(reference).rpartition("@")
    if not at or "/" in inside:
        folder, inside = str(reference), MAIN
    named = Path(folder)
    if named.name == GRADUATE and not named.exists():
        named = beside_base(named.parent) / GRADUATE
    return Store(named), inside
