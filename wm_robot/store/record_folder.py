"""Record folder: validation records beside a store or a base, one file for each, named by its SHA-256.

It knows no format: a record is checked by `wm_robot.sharing.find_record` where it is used.
"""

from collections.abc import Iterator
from pathlib import Path

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import compute_digest, make_folder
from wm_robot.store.snapshot import SHA256
from wm_robot.store.store_folder import write_if_different

RECORDS = "validation"
MAX_RECORD_FILE_BYTES = 1 << 18
MAX_RECORDS = 4096
"""Number of records that are read from a folder."""


class RecordFolder:
    """Folder `validation` in the folder of a store or of a base."""

    def __init__(self, place: Path):
        """Args:
        place: Folder of the store or of the base.
        """
        self.path = place / RECORDS

    def write(self, content: bytes) -> str:
        """Write a record, unless it is there, and return its digest.

        Raises:
            SnapshotError: If it cannot be written.
        """
        digest = compute_digest(content)
        try:
            make_folder(self.path)
            write_if_different(self.path / f"{digest}.json", content)
        except OSError as error:
            raise SnapshotError(
                f"the validation record cannot be written in {self.path}: {error}. Make the folder writable, or give "
                "the record a file of its own"
            ) from error
        return digest

    def read_all(self) -> Iterator[tuple[str, bytes]]:
        """Yield digest and content of each record that is undamaged; nothing is parsed."""
        if not self.path.is_dir():
            return
        for path in sorted(self.path.glob("*.json"))[:MAX_RECORDS]:
            if not SHA256.fullmatch(path.stem):
                continue
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_RECORD_FILE_BYTES + 1)
            except OSError:
                continue
            if compute_digest(content) == path.stem:
                yield path.stem, content

    def copy_from(self, source: "RecordFolder") -> None:
        """Copy the records of another folder.

        Raises:
            SnapshotError: If one cannot be written.
        """
        if source.path.absolute() != self.path.absolute():
            for _, content in source.read_all():
                self.write(content)
