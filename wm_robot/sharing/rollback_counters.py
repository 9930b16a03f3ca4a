"""How far each product has come, by whom it was signed: numbers that never run back.

::

    FOLDER/<key id>.<product>.json    the highest number, and the digest of what bore it
"""

from pathlib import Path
from typing import NamedTuple

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import locked, make_folder, write_file
from wm_robot.io.strict_json import read_canonical
from wm_robot.spec import canonical_json
from wm_robot.store.names import checked_name


class Mark(NamedTuple):
    """The highest that was seen."""

    sequence: int
    digest: str


class Sequences:
    """A folder of marks. Several processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder

    def highest(self, key: str, product: str) -> Mark:
        """The mark of a product; number 0 where there was none.

        Raises:
            SnapshotError: If its file is damaged: what was seen before is not known any more.
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
                f"{path} is damaged: {error}. Restore it, or remove it to take whatever comes first"
            ) from error
        return mark

    def check(self, key: str, product: str, mark: Mark) -> None:
        """Refuse what is older than the highest, or bears its number and is another.

        Raises:
            SnapshotError: If it is.
        """
        highest = self.highest(key, product)
        if mark.sequence > highest.sequence or mark == highest:
            return
        what = "is older than" if mark.sequence < highest.sequence else "is not the"
        raise SnapshotError(
            f"'{product}' number {mark.sequence} ({mark.digest[:12]}) {what} number {highest.sequence} "
            f"({highest.digest[:12]}) that was here already. Fetch a newer one, or say --allow-rollback"
        )

    def note(self, key: str, product: str, mark: Mark) -> None:
        """Raise the mark, durably; a lower one changes nothing."""
        make_folder(self.folder)
        with locked(self.folder / ".lock"):
            if mark.sequence > self.highest(key, product).sequence:
                self._write(key, product, mark)

    def next(self, key: str, product: str) -> int:
        """A number that was not given before and will not be again, durably."""
        make_folder(self.folder)
        with locked(self.folder / ".lock"):
            number = self.highest(key, product).sequence + 1
            self._write(key, product, Mark(number, ""))
        return number

    def _write(self, key: str, product: str, mark: Mark) -> None:
        write_file(self._path(key, product), canonical_json(mark._asdict()))

    def _path(self, key: str, product: str) -> Path:
        return self.folder / f"{key}.{checked_name(product)}.json"
