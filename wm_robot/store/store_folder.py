"""Store folder: its layout on disk, its lock, and the checks that it can be read or written."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import lock_exclusive, lock_shared, make_folder, sync_folder, write_file
from wm_robot.store.nearby_stores import no_store_error

OBJECTS, MANIFESTS, BRANCHES, PINS = FOLDERS = ("objects", "manifests", "branches", "pins")
QUARANTINE, LOCK, INDEX = "quarantine", ".lock", "index.sqlite3"


class StoreFolder:
    """Folder of a store. A lock file orders the processes that change it."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether anything was ever saved here."""
        return (self.path / MANIFESTS).is_dir()

    def check_exists(self) -> None:
        """Refuse a folder that is no store; see `Store.check_exists`."""
        if not self.exists:
            raise no_store_error(self.path)

    def check_writable(self) -> None:
        """Refuse a folder in which nothing can be saved; see `Store.check_writable`."""
        folder = self.path.absolute()
        place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
        if not (os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)):
            raise SnapshotError(
                f"nothing can be saved in {self.path}: {place} is no folder that this user may write in, or is "
                "read-only. Name another folder"
            )

    def lock_for_change(self, *, create: bool = False) -> AbstractContextManager[None]:
        """Return an exclusive lock; the folders that a store needs are made first.

        Args:
            create: Make a store where there is none.
        """
        if not create:
            self.check_exists()
        # Always: a process may have been killed between two of them.
        for name in FOLDERS:
            make_folder(self.path / name)
        return lock_exclusive(self.path / LOCK)

    def lock_for_reading(self) -> AbstractContextManager[None]:
        """Return a shared lock; nothing is written."""
        return lock_shared(self.path / LOCK)

    def move_to_quarantine(self, path: Path) -> None:
        """Move a file of the store into `quarantine`, if it is there."""
        if path.exists():
            make_folder(self.path / QUARANTINE)
            path.replace(self.path / QUARANTINE / path.name)
            sync_folder(self.path / QUARANTINE)
            sync_folder(path.parent)


def write_if_different(path: Path, content: bytes) -> None:
    """Write a file that is named by its content, unless it is there; the file that is there may be damaged."""
    if not path.exists() or path.read_bytes() != content:
        write_file(path, content)
