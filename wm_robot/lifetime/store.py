"""Where lives are kept: content-addressed snapshots, their lineage, and named branches. Numpy only.

::

    STORE/objects/<sha256>.safetensors    the tensors of a snapshot
    STORE/manifests/<sha256>.json         what they are and come from; its name is the snapshot's
    STORE/branches/<name>                 the snapshot that a named life has come to
    STORE/pins/<name>                     a snapshot that is kept whatever happens to branches
    STORE/quarantine/                     what failed its check; never read again
    STORE/index.sqlite3                   a copy of the manifests for quick answers; made again when it is lost

A snapshot is acknowledged when its object, its manifest and its branch are durable, written in that order, so that a
name never leads to what is not there whole. Nothing is ever changed in place.
"""

import heapq
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import PART, digest, locked, make_folder, remove_file, sync_folder, write_file
from wm_robot.lifetime.names import NAME, checked_name
from wm_robot.lifetime.snapshot import SHA256, Snapshot
from wm_robot.lifetime.store_index import StoreIndex

MAIN = "main"
"""Branch of a life that nobody named."""
FOLDERS = ("objects", "manifests", "branches", "pins")
QUARANTINE = "quarantine"
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
        with self._changing():
            head = self.branches().get(checked_name(branch))
            if parents is None:
                parents = [head] if head else []
            if head and head not in parents:
                raise SnapshotError(
                    f"branch '{branch}' in {self.folder} holds a life, {head[:12]}, that this one does not go on "
                    "from. Go on from it, or save in another branch"
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

    def fetch(self, other: "Store", reference: str) -> str:
        """Take a snapshot and all it comes from out of another store, so that a life here can go on from it."""
        if self.folder.resolve() == other.folder.resolve():
            return self.find(reference)
        line = list(other.log(reference))
        with self._changing():
            # The oldest first: what a manifest names as parent is here before it.
            for snapshot in reversed(line):
                if other.pruned(snapshot):
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
        with self._changing():
            head = self.branches().get(checked_name(branch))
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
            f"branch '{branch}' in {self.folder} holds another life, {head[:12]}. Name a branch that is not there yet"
        )

    # --- find ---------------------------------------------------------------------------------------------------

    def find(self, reference: str) -> str:
        """Digest of a snapshot.

        Args:
            reference: A branch, a pin, or the beginning of a digest; `~N` after it is the Nth before it.

        Raises:
            SnapshotError: If there is none, or more than one.
        """
        name, _, back = reference.partition("~")
        if back and not back.isdigit():
            raise SnapshotError(f"reference '{reference}' ends in '~{back}'; it must be '~' and a number")
        found = self.branches().get(name) or self.pins().get(name)
        if found is None and _DIGEST_START.fullmatch(name):
            ahead = self._index_of_all().starting_with(name)
            if len(ahead) > 1:
                raise SnapshotError(
                    f"'{name}' begins {len(ahead)} snapshots in {self.folder}; write more of it"
                )
            found = ahead[0] if ahead else None
        if found is None:
            there = ", ".join(sorted(self.branches())) or "none"
            raise SnapshotError(
                f"no lifetime state '{name}' in {self.folder}; its branches are: {there}. "
                "Name one of them, or begin a new life"
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
        return self._index_of_all().all()

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
            if name in self.branches():
                raise SnapshotError(
                    f"branch '{name}' is there already in {self.folder}. Reset it, or choose another"
                )
            found = self.find(reference)
            self._point("branches", name, found)
        return found

    def reset(self, name: str, reference: str) -> str:
        """Let a life go on from another snapshot; where it was stays in the store until `gc`."""
        with self._changing():
            if name not in self.branches():
                raise SnapshotError(f"no branch '{name}' in {self.folder}")
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

    def verify(self) -> list[str]:
        """Check every byte. What is damaged goes to the quarantine.

        Returns:
            What was found, a sentence each; empty if all is well.
        """
        found = []
        with self._changing():
            for path in sorted((self.folder / "manifests").glob("*.json")):
                try:
                    snapshot = self.read(path.stem)
                except SnapshotError as error:
                    found.append(str(error))
                    self._isolate(path)
                    continue
                if self.pruned(snapshot):
                    continue
                try:
                    self._tensors(snapshot)
                except SnapshotError as error:
                    found.append(str(error))
                    self._isolate(path)
                    self._isolate(self._object(snapshot))
            kept = {path.stem for path in (self.folder / "manifests").glob("*.json")}
            for what, names in (("branch", self.branches()), ("pin", self.pins())):
                found += [
                    f"{what} '{name}' leads to {head[:12]}, which is not here"
                    for name, head in names.items()
                    if head not in kept
                ]
            self._index.clear()
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
            dry_run: Remove nothing.

        Returns:
            Those whose tensors were removed, or would be.

        Raises:
            SnapshotError: If a manifest is damaged or missing: what came before it would be taken for unreachable.
        """
        with self._changing():
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
        self._index.clear()

    # --- inside -------------------------------------------------------------------------------------------------

    def _changing(self) -> AbstractContextManager[None]:
        # Always: a kill may have come between two of them.
        for kind in FOLDERS:
            make_folder(self.folder / kind)
        return locked(self.folder / ".lock")

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
        found = {}
        folder = self.folder / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if NAME.fullmatch(path.name):
                head = path.read_text().strip()
                if not SHA256.fullmatch(head):
                    raise SnapshotError(
                        f"{path} is damaged: it holds no digest. Reset it to a snapshot of `log`"
                    )
                found[path.name] = head
        return found

    def _point(self, kind: str, name: str, head: str) -> None:
        write_file(self.folder / kind / checked_name(name), f"{head}\n".encode())

    def _unname(self, kind: str, name: str) -> None:
        with self._changing():
            if name not in self._names(kind):
                raise SnapshotError(f"no '{name}' in {self.folder / kind}")
            remove_file(self.folder / kind / name)

    def _isolate(self, path: Path) -> None:
        if path.exists():
            make_folder(self.folder / QUARANTINE)
            path.replace(self.folder / QUARANTINE / path.name)
            sync_folder(self.folder / QUARANTINE)
            sync_folder(path.parent)

    def _index_of_all(self) -> StoreIndex:
        """The index, brought up to what is on disk."""
        if not self.exists:
            return self._index
        there, known = self._listed(), self._index.names()
        if known - there:
            self._index.clear()
            known = set()
        missing = there - known
        if missing:
            self._index.add(self._readable(missing))
        return self._index

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
    """Store and reference of what is written `FOLDER@REFERENCE`; without one, the life that nobody named."""
    folder, at, inside = str(reference).rpartition("@")
    return (Store(folder), inside) if at and "/" not in inside else (Store(reference), MAIN)
