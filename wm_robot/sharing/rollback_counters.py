"""Rollback counters: the highest sequence number of each product, by signing key. They never decrease.

::

    FOLDER/<key id>.<product>.json    the highest number, and the digest of its bundle
"""

from pathlib import Path
from typing import NamedTuple

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import locked, make_folder, write_file
from wm_robot.io.strict_json import read_canonical
from wm_robot.spec import canonical_json
from wm_robot.store.names import checked_name


class Mark(NamedTuple):
    """Highest sequence number, and the digest of its bundle."""

    sequence: int
    digest: str


class Sequences:
    """Folder of counters. Several processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder

    def highest(self, key: str, product: str) -> Mark:
        """Return the mark of a product; number 0 if there is none.

        Raises:
            SnapshotError: If its file is damaged, and the highest number is lost.
        """
        path = self._path(key, product)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Mark(0, "")
        found = read_canonical(content, str(path))
        try:
            mark = Mark(**found)
        except TypeError as error:
            raise SnapshotError(
                f"{path} is damaged: {error}. Restore it, or remove it to accept any number next"
            ) from error
        return mark

    def check(self, key: str, product: str, mark: Mark) -> None:
        """Refuse a bundle that is older than the highest, or has its number and another digest.

        Raises:
            SnapshotError: If the bundle is refused.
        """
        highest = self.highest(key, product)
        if mark.sequence > highest.sequence or mark == highest:
            return
        what = "is older than" if mark.sequence < highest.sequence else "is not the"
        raise SnapshotError(
            f"'{product}' number {mark.sequence} ({mark.digest[:12]}) {what} number {highest.sequence} "
            f"({highest.digest[:12]}) that was received before. Fetch a newer one, or add --allow-rollback"
        )

    def note(self, key: str, product: str, mark: Mark) -> None:
        """Raise the mark, durably; a lower one changes nothing."""
        make_folder(self.folder)
        with locked(self.folder / ".lock"):
            if mark.sequence > self.highest(key, product).sequence:
                self._write(key, product, mark)

    def next(self, key: str, product: str) -> int:
        """Return a number that was never returned before, and durably reserve it."""
        make_folder(self.folder)
        with locked(self.folder / ".lock"):
            number = self.highest(key, product).sequence + 1
            self._write(key, product, Mark(number, ""))
        return number

    def _write(self, key: str, product: str, mark: Mark) -> None:
        write_file(self._path(key, product), canonical_json(mark._asdict()))

    def _path(self, key: str, product: str) -> Path:
        return self.folder / f"{key}.{checked_name(product)}.json"
