"""References of a store: the names of branches and pins, and the digests to which they lead."""

import re
import shlex
from difflib import get_close_matches
from itertools import count
from pathlib import Path

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import remove_file, write_file
from wm_robot.store.manifests import ManifestFolder
from wm_robot.store.names import check_name, is_name
from wm_robot.store.snapshot import SHA256

_DIGEST_PREFIX = re.compile("[0-9a-f]{6,64}")


class ReferenceFolder:
    """Folder of names, each a small file that holds the digest of a snapshot."""

    def __init__(self, path: Path, *, noun: str):
        """Args:
        path: `branches` or `pins` of a store.
        noun: Word for one of the names, in messages.
        """
        self._store_path = path.parent
        self.path = path
        self.noun = noun

    def list_names(self) -> list[str]:
        """Return all names, sorted."""
        files = self.path.iterdir() if self.path.is_dir() else ()
        return sorted(file.name for file in files if is_name(file.name))

    def read(self, name: str) -> str | None:
        """Return the digest that a name leads to; None if there is no such name.

        Raises:
            SnapshotError: If the file holds no digest.
        """
        if not is_name(name):
            return None
        path = self.path / name
        try:
            head = path.read_bytes().decode("ascii", "replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not SHA256.fullmatch(head):
            raise SnapshotError(
                f"{path} is damaged: it holds no digest. Reset it to a snapshot that is whole: wm-robot state reset "
                f"{shlex.quote(f'{self._store_path}@{name}')} DIGEST"
            )
        return head

    def read_all(self) -> dict[str, str]:
        """Return name → digest."""
        found = {name: self.read(name) for name in self.list_names()}
        return {name: head for name, head in found.items() if head is not None}

    def check_exists(self, name: str) -> None:
        """Refuse a name that is not here; a damaged one is accepted.

        Raises:
            SnapshotError: It names the nearest one.
        """
        if not (is_name(name) and (self.path / name).is_file()):
            names = self.list_names()
            close = get_close_matches(name, names, n=1)
            guess = f" Did you mean '{close[0]}'?" if close else ""
            raise SnapshotError(
                f"no {self.noun} '{name}' in {self._store_path}; there are: {', '.join(names) or 'none'}.{guess} "
                f"See: {_list_command(self._store_path)}"
            )

    def find_free_name(self, name: str) -> str:
        """Return the name with the first number from 2 that makes it free."""
        names = self.list_names()
        return next(free for n in count(2) if (free := f"{name}-{n}") not in names)

    def write(self, name: str, digest: str) -> None:
        """Let a name lead to a snapshot; durable when this returns."""
        write_file(self.path / check_name(name), f"{digest}\n".encode())

    def delete(self, name: str) -> None:
        """Delete a name that is here."""
        self.check_exists(name)
        remove_file(self.path / name)


def resolve_reference(
    reference: str, *, branches: ReferenceFolder, pins: ReferenceFolder, manifests: ManifestFolder
) -> str:
    """Return the digest of a snapshot; see `Store.resolve`."""
    name, _, back = reference.partition("~")
    if back and not back.isdigit():
        raise SnapshotError(f"reference '{reference}' ends in '~{back}'; it must be '~' and a number")
    store_path = manifests.path.parent
    digest = branches.read(name) or pins.read(name)
    if digest is None and _DIGEST_PREFIX.fullmatch(name):
        matches = [each for each in manifests.list_digests() if each.startswith(name)]
        if len(matches) > 1:
            raise SnapshotError(
                f"'{name}' is the prefix of {len(matches)} snapshots in {store_path}; write more digits"
            )
        digest = matches[0] if matches else None
    if digest is None:
        names = sorted(branches.read_all())
        close = get_close_matches(name, [*names, *pins.read_all()], n=1)
        guess = f"Did you mean '{close[0]}'? " if close else ""
        raise SnapshotError(
            f"no lifetime state '{name}' in {store_path}; its branches are: {', '.join(names) or 'none'}. "
            f"{guess}Name one of them, or start from the initial state. See: {_list_command(store_path)}"
        )
    for _ in range(int(back or 0)):
        parents = manifests.read(digest).parents
        if not parents:
            raise SnapshotError(f"'{reference}' is before the initial state of '{name}'")
        digest = parents[0]
    return digest


def _list_command(store_path: Path) -> str:
    return f"wm-robot state ls {shlex.quote(str(store_path))}"
