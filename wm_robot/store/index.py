"""Index of a store: a copy of its manifests in one SQLite file.

The file may be lost at any moment; `collect_garbage` writes it again.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from wm_robot.errors import SnapshotError
from wm_robot.store.snapshot import Snapshot

_CREATE_TABLE = (
    "create table if not exists snapshot "
    "(name text primary key, sequence integer, manifest blob) without rowid"
)


class StoreIndex:
    """Index that returns all manifests in one read. Only a process that changes the store writes it."""

    def __init__(self, path: Path):
        self.path = path

    def add_snapshots(self, snapshots: Iterable[Snapshot]) -> None:
        """Add snapshots that are durable already."""
        rows = [(each.digest, each.sequence, each.encode()) for each in snapshots]
        try:
            with closing(self._open_or_recreate()) as database, database:
                database.executemany("insert or replace into snapshot values (?, ?, ?)", rows)
        except sqlite3.Error:
            # The snapshots are durable: a failed copy must not refuse them.
            self.clear()

    def read_all(self) -> list[Snapshot]:
        """Return all snapshots; none if the file is lost, damaged or unreadable. Nothing is written."""
        try:
            # In this mode SQLite makes no file, and works on a read-only mount.
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                rows = database.execute("select name, manifest from snapshot").fetchall()
            return [Snapshot.parse(name, content) for name, content in rows]
        except (sqlite3.Error, SnapshotError, TypeError):
            return []

    def clear(self) -> None:
        """Delete the file."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink(missing_ok=True)

    def _open_or_recreate(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError:
            self.clear()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=30)
        try:
            # The file is only a copy, so it need not be synced.
            database.execute("pragma synchronous = off")
            database.execute(_CREATE_TABLE)
            database.execute("select count(*) from snapshot").fetchone()
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database
