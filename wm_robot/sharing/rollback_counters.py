"""Rollback counters: the highest sequence number of each product, by signing key. They never decrease.

::

    FOLDER/<key id>.<product>.json    the highest number, and the digest of its bundle
"""

from pathlib import Path
from typing import NamedTuple

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import lock_exclusive, make_folder, write_file
from wm_robot.io.strict_json import parse_canonical_json
from wm_robot.spec import encode_canonical_json
from wm_robot.store.names import check_name


class CounterMark(NamedTuple):
    """Highest sequence number, and the digest of its bundle."""

    sequence: int
    digest: str


class RollbackCounters:
    """Folder of counters. Several processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read_highest(self, key: str, product: str) -> CounterMark:
        """Return the mark of a product; number 0 if there is none.

        Raises:
            SnapshotError: If its file is damaged, and the highest number is lost.
        """
        path = self._file_of(key, product)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return CounterMark(0, "")
        found = parse_canonical_json(content, str(path))
        try:
            mark = CounterMark(**found)
        except TypeError as error:
            raise SnapshotError(
                f"{path} is damaged: {error}. Restore it, or remove it to accept any number next"
            ) from error
        return mark

    def check_not_older(self, key: str, product: str, mark: CounterMark) -> None:
        """Refuse a bundle that is older than the highest, or has its number and another digest.

        Raises:
            SnapshotError: If the bundle is refused.
        """
        highest = self.read_highest(key, product)
        if mark.sequence > highest.sequence or mark == highest:
            return
        what = "is older than" if mark.sequence < highest.sequence else "is not the"
        raise SnapshotError(
            f"'{product}' number {mark.sequence} ({mark.digest[:12]}) {what} number {highest.sequence} "
            f"({highest.digest[:12]}) that was received before. Fetch a newer one, or add --allow-rollback"
        )

    def record(self, key: str, product: str, mark: CounterMark) -> None:
        """Raise the mark, durably; a lower one changes nothing."""
        make_folder(self.folder)
        with lock_exclusive(self.folder / ".lock"):
            if mark.sequence > self.read_highest(key, product).sequence:
                self._write(key, product, mark)

    def take_next(self, key: str, product: str) -> int:
        """Return a number that was never returned before, and durably reserve it."""
        make_folder(self.folder)
        with lock_exclusive(self.folder / ".lock"):
            number = self.read_highest(key, product).sequence + 1
            self._write(key, product, CounterMark(number, ""))
        return number

    def _write(self, key: str, product: str, mark: CounterMark) -> None:
        write_file(self._file_of(key, product), encode_canonical_json(mark._asdict()))

    def _file_of(self, key: str, product: str) -> Path:
        return self.folder / f"{key}.{check_name(product)}.json"
